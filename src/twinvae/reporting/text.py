"""What readers see of names and numbers, and templates filled; nothing here needs matplotlib.

Pages carry everything inside and open offline.
"""

from __future__ import annotations

import base64
import math
import textwrap
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from twinvae.scoring.table import CONTEXT_SUFFIX, PAPER_SCORE, TRIVIAL_PREFIX

_SCORES = {
    PAPER_SCORE: "Distance between encodings (paper)",
    "image_l2": "Total image difference",
    "fused": "All contrasts together",
    "healthy_mean_norm": "Length of healthy encoding",
    "residual_local": "Difference from healthy version",
    "residual_negative_local": "Darkness against healthy version",
    "residual_mirrored_local": "Both healthy versions differ",
    "residual_or_mirror_local": "Difference from 2 healthy versions",
    "residual_or_mirror_negative_local": "Darkness against 2 healthy versions",
    "residual_mirror_zscore_local": "Difference from 3 healthy versions",
    "residual_mirror_zscore_negative_local": "Darkness against 3 healthy versions",
    "residual_or_window_local": "Difference from 2 healthy areas",
    "residual_or_window_negative_local": "Darkness against 2 healthy areas",
    "lesion_local": "Lesion probability",
    "learned_local": "Learned sum of differences",
    "learned_agreed_local": "Learned and plain difference agree",
    "learned_agreed_negative_local": "Learned and plain darkness agree",
    "trivial_zscore": "Trivial: above healthy average",
    "trivial_zscore_mean": "Trivial: unlike healthy average",
    "trivial_position": "Trivial: place in the brain",
    "trivial_brain_area": "Trivial: brain area",
    "trivial_mean_intensity": "Trivial: mean brightness",
    "trivial_p99_intensity": "Trivial: brightest hundredth",
    "trivial_hyperintense": "Trivial: share of bright pixels",
    "trivial_smoothed_max": "Trivial: brightest spot",
    "trivial_asymmetry": "Trivial: slice's own flip",
    "trivial_asymmetry_3d": "Trivial: aligned mirror",
    "trivial_asymmetry_3d_window": "Trivial: aligned mirror, areas",
    "trivial_asymmetry_3d_negative": "Trivial: aligned mirror, dark",
    "trivial_asymmetry_3d_window_negative": "Trivial: aligned mirror, dark areas",
}
"""A healthy version of a slice: its healthy reconstruction, its mirror image, or the average of
healthy slices at its place."""


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as an address that a page carries inside itself; ``kind``: png or svg."""
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def score_label(name: str) -> str:
    """A score's name as a reader would say it; trivial rivals are marked as such.

    ``smoothed``: over neighbouring slices, what else is called in context.
    """
    if name.endswith(CONTEXT_SUFFIX):
        return f"{score_label(name.removesuffix(CONTEXT_SUFFIX))}, smoothed"
    if name in _SCORES:
        return _SCORES[name]
    if name.startswith(TRIVIAL_PREFIX):
        return f"Trivial: {name.removeprefix(TRIVIAL_PREFIX).replace('_', ' ')}"
    return name.replace("_", " ")


def wrapped(label: str, width: int = 30) -> str:
    """``label`` on lines of at most ``width`` characters, for where a figure has little room."""
    return textwrap.fill(label, width)


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
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    """It keeps templates that it has read: a page is made for every scan."""
    return Environment(
        loader=PackageLoader("twinvae.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
