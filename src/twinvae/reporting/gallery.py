"""Pictures of slices: originals, healthy reconstructions, residuals, masks (figures 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from twinvae.reporting.style import show_nothing, styled

Images = npt.NDArray[np.floating]
Masks = npt.NDArray[np.bool_]

_RESIDUAL_COLOURS = "RdBu_r"
_MAP_COLOURS = "inferno"
_CONTOUR = "#F0E442"  # Okabe–Ito yellow: seen on grey


@dataclass(frozen=True)
class Gallery:
    """Some slices, and what the healthy model makes of them.

    Rows run from anterior to posterior, columns from the person's right to left, as stored.
    """

    images: Images
    """(n, H, W), intensity in [0, 1]."""
    reconstructions: Images
    """(n, H, W), intensity in [0, 1]."""
    captions: Sequence[str]
    """n short texts, up to three lines each."""
    masks: Masks | None = None
    """(n, H, W), tumour; None when there is none to show."""
    maps: Images | None = None
    """(n, H, W), larger = more abnormal; shown instead of the residual x − x_h."""
    map_name: str = ""
    """What they are."""


@styled
def figure_gallery(gallery: Gallery) -> Figure:
    """A column a slice: x, x_h, a map and, when there are masks, x with the tumour's outline."""
    count = len(gallery.images)
    seen = _shown_map(gallery)
    names = ["slice x", "healthy\nreconstruction x_h", seen.name]
    names += ["tumour mask"] if gallery.masks is not None else []
    if not count:
        figure = Figure(figsize=(5, 2), layout="constrained")
        show_nothing(figure.subplots(), "no slices to show")
        return figure
    close = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(1.2 * count + 1.9, 1.2 * len(names) + 0.6), layout=close)
    grid = figure.subplots(len(names), count, squeeze=False)
    for column, caption in enumerate(gallery.captions):
        x = gallery.images[column]
        show_slice(grid[0, column], x)
        show_slice(grid[1, column], gallery.reconstructions[column])
        drawn = grid[2, column].imshow(
            seen.values[column], cmap=seen.colours, vmin=seen.low, vmax=seen.high
        )
        if gallery.masks is not None:
            show_slice(grid[3, column], x)
            outline(grid[3, column], gallery.masks[column])
        grid[0, column].set_title(caption, fontsize=7.5, fontweight="normal", loc="center")
    for axes in grid.flat:
        bare(axes)
    for row, name in enumerate(names):
        grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, labelpad=6)
    bar = figure.colorbar(drawn, ax=list(grid[2, :]), shrink=0.92, aspect=12, pad=0.01)
    bar.set_label(seen.unit, fontsize=7.5)
    bar.ax.tick_params(labelsize=7)
    return figure


@dataclass(frozen=True)
class _ShownMap:
    name: str
    values: Images
    colours: str
    low: float
    high: float
    unit: str


def _shown_map(gallery: Gallery) -> _ShownMap:
    if gallery.maps is None:
        residual = gallery.images - gallery.reconstructions
        limit = residual_limit(residual)
        name = "residual\nx − x_h"
        return _ShownMap(name, residual, _RESIDUAL_COLOURS, -limit, limit, "intensity")
    high = float(np.percentile(gallery.maps, 99.5)) if gallery.maps.size else 0.0
    name = f"map\n{gallery.map_name}"
    return _ShownMap(name, gallery.maps, _MAP_COLOURS, 0.0, high or 1.0, "no unit")


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
