"""What readers see of names and numbers, and templates filled; nothing here needs matplotlib.

Pages carry everything inside and open offline.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from twinvae.scoring.table import CONTEXT_SUFFIX, PAPER_SCORE, TRIVIAL_PREFIX

_SCORES = {
    PAPER_SCORE: "Latent L2 (paper)",
    "image_l2": "Image L2",
    "fused": "Contrasts fused",
    "healthy_mean_norm": "Norm of VAE-H mean",
    "residual_local": "Local residual",
    "residual_or_mirror_local": "Residual or mirror",
    "residual_mirror_zscore_local": "Three counterparts",
    "residual_or_window_local": "Residual or mirror, local means",
}


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as an address that a page carries inside itself; ``kind``: png or svg."""
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def score_label(name: str) -> str:
    """A score's name as a reader would say it; trivial rivals are marked as such."""
    if name.endswith(CONTEXT_SUFFIX):
        return f"{score_label(name.removesuffix(CONTEXT_SUFFIX))} in context"
    if name.startswith(TRIVIAL_PREFIX):
        return f"Trivial: {name.removeprefix(TRIVIAL_PREFIX).replace('_', ' ')}"
    return _SCORES.get(name, name.replace("_", " "))


def number(value: object, digits: int = 3) -> str:
    """``value`` with ``digits`` decimals, or a dash when it is None or NaN."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 3) -> str:
    """``value`` with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(value: object, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage, or a dash."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{100 * value:.{digits}f} %"


def span(low: object, high: object, digits: int = 3) -> str:
    """An interval, or nothing when it is not known."""
    known = [isinstance(v, int | float) and not math.isnan(v) for v in (low, high)]
    return f"{number(low, digits)} to {number(high, digits)}" if all(known) else ""


def percent_span(low: object, high: object, digits: int = 1) -> str:
    """An interval of shares as percentages, or nothing when it is not known."""
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return ""
    interval = span(100 * low, 100 * high, digits)
    return f"{interval} %" if interval else ""


def ordinal(percentile: float) -> str:
    """``99`` → ``99th``; ``99.5`` → ``99.5th``."""
    text = f"{percentile:g}"
    if "." in text or text[-2:] in ("11", "12", "13"):
        return f"{text}th"
    return text + {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th")


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
