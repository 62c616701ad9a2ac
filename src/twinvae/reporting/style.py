"""One look for every figure and page: fonts, colours that colour-blind readers tell apart, slices
in grey, how scores and numbers are written; a figure as PNG, SVG or address; templates filled.

Figures are matplotlib ``Figure`` objects drawn without pyplot, so that no global state is left.
Pages carry everything inside and open offline.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinvae.scoring.table import CONTEXT_SUFFIX, PAPER_SCORE, TRIVIAL_PREFIX

# Okabe and Ito, Color Universal Design (2008).
BLUE, SKY, VERMILLION = "#0072B2", "#56B4E9", "#D55E00"
GREEN, GREY, INK = "#009E73", "#767676", "#1F2328"

_RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": "#8C959F",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E7EB",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": "#57606A",
    "ytick.color": "#57606A",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "twinvae",  # the same figure gives the same bytes
}
DPI = 160

Images = npt.NDArray[np.floating]
"""(n, H, W) or (H, W)."""
Masks = npt.NDArray[np.bool_]
_CONTOUR = "#F0E442"  # Okabe–Ito yellow: seen on grey

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

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function that draws a figure do so in the project's style."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return wrapper


@dataclass(frozen=True)
class Picture:
    """A drawn figure as the bytes of both files."""

    png: bytes
    svg: bytes
    width: float
    """In inches."""

    def save(self, folder: Path, name: str) -> None:
        """Write ``folder/name.png`` and ``folder/name.svg``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(self.png)
        (folder / f"{name}.svg").write_bytes(self.svg)


def picture(figure: Figure) -> Picture:
    """Draw ``figure`` after settling its layout once, so that both files look the same."""
    with mpl.rc_context(_RC):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return Picture(as_png(figure), as_svg(figure), figure.get_figwidth())


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write ``folder/name.png`` and ``folder/name.svg``."""
    picture(figure).save(folder, name)


def as_png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file."""
    return _saved(figure, "png", dpi=dpi, metadata={"Software": None})


def as_svg(figure: Figure) -> bytes:
    """The figure as an SVG file; text is drawn as shapes, so it needs no font."""
    return _saved(figure, "svg", dpi=DPI, metadata={"Date": None, "Creator": "twinvae"})


def data_uri(content: bytes, kind: str) -> str:
    """``content`` as an address that a page carries inside itself; ``kind``: png or svg."""
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def show_nothing(axes: Axes, message: str) -> None:
    """Say on empty axes why nothing is drawn."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, message, ha="center", va="center", color=GREY, transform=axes.transAxes)


def residual_limit(residual: Images) -> float:
    """Half-width of a residual colour scale: the 99.5th percentile of its size, at least 0.05."""
    return max(0.05, float(np.percentile(np.abs(residual), 99.5))) if residual.size else 0.05


def show_slice(axes: Axes, image: Images) -> None:
    """Draw an intensity image in [0, 1] in grey."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)


def outline(axes: Axes, mask: Masks) -> None:
    """Draw the border of ``mask``, when it holds anything."""
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors=[_CONTOUR], linewidths=1.1)


def bare(axes: Axes) -> None:
    """Leave the picture only."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


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


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
