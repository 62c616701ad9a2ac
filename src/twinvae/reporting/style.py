"""One look for every figure and page: fonts, colours that colour-blind readers tell apart, slices
in grey; a figure as PNG or SVG.

Figures are matplotlib ``Figure`` objects drawn without pyplot, so that no global state is left.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
