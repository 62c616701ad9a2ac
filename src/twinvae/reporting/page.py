"""Filling the templates of this package; pages carry everything inside and open offline."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

SIGNS = {"good": "✓", "bad": "✗", "unclear": "≈"}
"""How the tone of a statement is shown."""


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; everything put in is escaped."""
    environment = Environment(
        loader=PackageLoader("twinvae.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
