"""A brain mask to be looked at: its outline on the head it was found in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twinvae.reporting.style import bare, outline, styled

_HEIGHTS = (0.15, 0.35, 0.6, 0.85)  # of the brain, from its lowest slice up: axial slices shown
_ASIDE = 0.05  # of the brain's width from its middle: a sagittal slice beside the falx


@dataclass(frozen=True)
class MaskedHead:
    """A head and the mask found in it, both (X, Y, Z) in RAS+."""

    image: NDArray[np.float32]
    brain: NDArray[np.bool_]
    """Not empty."""
    spacing_mm: tuple[float, float, float]


@styled
def figure_mask_outline(head: MaskedHead) -> Figure:
    """The mask's outline on a sagittal, a coronal and four axial slices."""
    low, high = _extent(head.brain)
    top = float(np.percentile(head.image[head.brain], 99.5)) * 1.1
    middle, span = (low + high) // 2, high - low
    cuts = [(0, middle[0] + int(_ASIDE * span[0])), (1, middle[1])]
    cuts += [(2, low[2] + int(share * span[2])) for share in _HEIGHTS]
    figure = Figure(figsize=(11, 2.4), layout="constrained")
    for axes, (axis, number) in zip(figure.subplots(1, len(cuts)), cuts, strict=True):
        across, up = (side for other, side in enumerate(head.spacing_mm) if other != axis)
        _draw(axes, head, axis, int(number), top)
        axes.set_aspect(up / across)
        axes.set_title(f"{'xyz'[axis]} = {number}", fontsize=8, fontweight="normal")
        bare(axes)
    return figure


def _draw(axes: Any, head: MaskedHead, axis: int, number: int, top: float) -> None:
    """One slice as radiologists look at it: the person's right is on the left."""
    shown, mask = (
        np.take(array, number, axis=axis).T[::-1, :: -1 if axis else 1]
        for array in (head.image, head.brain)
    )
    axes.imshow(shown, cmap="gray", vmin=0, vmax=max(top, 1e-9), interpolation="antialiased")
    if mask.any():
        outline(axes, mask)


def _extent(brain: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last voxel of the brain along each axis."""
    lines = [
        np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)
    ]
    return np.array([one[0] for one in lines]), np.array([one[-1] for one in lines])
