"""Help texts that name what is registered, looked up only when somebody asks for help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperOption


class NamesLayouts(TyperCommand):
    """A command whose option ``--layout`` lists the layouts; knowing them takes slow imports."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Complete the option's help, then write all of it."""
        from twinvae.cohort import LAYOUTS

        for param in self.params:
            if isinstance(param, TyperOption) and param.name == "layout":
                param.help = f"auto, which recognises the layout, or {', '.join(LAYOUTS)}."
        super().format_help(ctx, formatter)
