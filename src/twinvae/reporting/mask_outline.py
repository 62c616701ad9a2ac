"""A brain mask to be looked at: its outline on the head it was found in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twinvae.reporting.pictures import Pixels, grey

_HEIGHTS = (0.15, 0.35, 0.6, 0.85)  # of the brain, from its lowest slice up: axial slices shown
_ASIDE = 0.05  # of the brain's width from its middle: a sagittal slice beside the falx
_PIXEL_MM = 1.0
_LINE = (240, 228, 66)  # Okabe–Ito yellow: seen on grey


@dataclass(frozen=True)
class MaskedHead:
    """A head and the mask found in it, both (X, Y, Z); the axes point right, anterior, superior."""

    image: NDArray[np.float32]
    brain: NDArray[np.bool_]
    """Not empty."""
    spacing_mm: NDArray[np.float64]
    """(3,)."""


def mask_outlines(head: MaskedHead) -> dict[str, Pixels]:
    """A sagittal, a coronal and four axial slices by name, the mask's outline drawn in.

    As radiologists look at them: the person's right is on the left.
    """
    low, high = _extent(head.brain)
    top = max(float(np.percentile(head.image[head.brain], 99.5)) * 1.1, 1e-9)
    middle, span = (low + high) // 2, high - low
    cuts = [(0, middle[0] + int(_ASIDE * span[0])), (1, middle[1])]
    cuts += [(2, low[2] + int(share * span[2])) for share in _HEIGHTS]
    return {
        f"{'xyz'[axis]} = {number}": _cut(head, axis, int(number), top) for axis, number in cuts
    }


def _cut(head: MaskedHead, axis: int, number: int, top: float) -> Pixels:
    """One slice in square pixels, anterior or superior at its top."""
    across, up = (
        np.arange(0, size - 0.5, _PIXEL_MM / side).astype(np.int64)
        for other, (size, side) in enumerate(zip(head.brain.shape, head.spacing_mm, strict=True))
        if other != axis
    )
    across = across[::-1] if axis else across  # the person's left is on the right
    image, mask = (
        np.take(array, number, axis=axis)[np.ix_(across, up[::-1])].T
        for array in (head.image, head.brain)
    )
    pixels = grey(image / top)
    pixels[_border(mask)] = _LINE
    return pixels


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask that touch what is not in it by a side."""
    wide = np.pad(mask, 1)
    within = wide[2:, 1:-1] & wide[:-2, 1:-1] & wide[1:-1, 2:] & wide[1:-1, :-2]
    return mask & ~within


def _extent(brain: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last voxel of the brain along each axis."""
    lines = [
        np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)
    ]
    return np.array([one[0] for one in lines]), np.array([one[-1] for one in lines])
