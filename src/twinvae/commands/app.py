"""The command `twinvae`, put together from its groups."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperOption

from twinvae import __version__
from twinvae.commands import lists, runs, scans
from twinvae.commands.detect import detect
from twinvae.errors import TwinvaeError
from twinvae.parallel import keep_freed_memory
from twinvae.progress import console

app = typer.Typer(
    name="twinvae",
    help="Find tumours in brain MRI without tumour labels. Not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"twinvae {__version__}")
        raise typer.Exit


class NamesLayouts(TyperCommand):
    """A command whose option ``--layout`` lists the layouts; knowing them takes slow imports."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Complete the option's help, then write all of it."""
        from twinvae.cohort import LAYOUTS

        for param in self.params:
            if isinstance(param, TyperOption) and param.name == "layout":
                param.help = f"auto, which recognises the layout, or {', '.join(LAYOUTS)}."
        super().format_help(ctx, formatter)


def _add(to: typer.Typer, command: Callable[..., None], **how: Any) -> None:
    """Add a command with its example."""
    to.command(epilog=f"Example: {command.__dict__['example']}", **how)(command)


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Judge scans": (detect,),
    "Do a run": (runs.run, runs.crossval, runs.study),
    "Stages of a run": (
        runs.prepare,
        runs.stage_command("train", "Train a run's two models; goes on where it was cut off."),
        runs.stage_command("score", "Compute every score for every slice of a run."),
        runs.calibrate,
        runs.evaluate,
        runs.fuse,
        runs.stage_command("report", "Draw a run's figures and write its report."),
        runs.yardstick,
    ),
    "Scans": (scans.phantom, scans.index, scans.check),
    "Look things up": (lists.describe,),
}
_LISTS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "config": (
        "Look at presets and check configurations.",
        {"list": lists.config_list, "show": lists.config_show, "fields": lists.config_fields},
    ),
    "scores": (
        "What can be computed for a slice.",
        {"list": lists.scores_list, "maps": lists.scores_maps},
    ),
    "models": ("What can be trained.", {"list": lists.models_list, "show": lists.models_show}),
    "bundles": (
        "Bundles that come with the package.",
        {"list": lists.bundles_list, "show": lists.bundles_show, "pack": lists.bundles_pack},
    ),
    "layouts": ("How folders of scans may be laid out.", {"list": lists.layouts_list}),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        _how = {"cls": NamesLayouts} if _command is scans.index else {}
        _add(app, _command, rich_help_panel=_panel, **_how)
for _name, (_about, _subcommands) in _LISTS.items():
    _group = typer.Typer(help=_about, no_args_is_help=True)
    app.add_typer(_group, name=_name, rich_help_panel="Look things up")
    for _word, _command in _subcommands.items():
        _add(_group, _command, name=_word)


def main() -> None:
    """Run the command line."""
    keep_freed_memory()
    with exits():
        if "TORCHELASTIC_RUN_ID" in os.environ:  # as torchrun sets it
            _among_ranks()
        else:
            app()


@contextmanager
def exits() -> Iterator[None]:
    """What a user can mend becomes one clear message and an exit code."""
    try:
        yield
    except TwinvaeError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        said = escape(f"{where}{error.strerror or error}")
        console.print(f"[bold red]error:[/] {said}", soft_wrap=True)
        sys.exit(1)


def _among_ranks() -> None:
    """Do the command in the first of torchrun's processes; the others help it to train."""
    from twinvae.training import help_train
    from twinvae.training.ranks import joined

    with joined() as ranks:
        if ranks.rank == 0:
            app()
        else:
            help_train()
