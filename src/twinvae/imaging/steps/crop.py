"""Cut a square around the brain out of each kept slice and bring it to the network's size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.config import CropResize
from twinvae.imaging.resample import Taps, apply_taps, resampling_taps
from twinvae.imaging.scan import Ints, Pictures, Window, Working
from twinvae.imaging.steps.base import Fitted, apply_step
from twinvae.imaging.steps.select import without_tumour

_STRAY = 0.01  # lines of voxels with less than this of the fullest line's brain are no brain


@apply_step.register
def crop_resize(options: CropResize, scan: Working, fitted: Fitted) -> Working:
    """Make the pictures: rows from anterior to posterior, columns from the right to the left.

    The square's centre is that of the bounding box of the whole brain, in plane; a few stray
    voxels do not move it.
    """
    del fitted
    scan = without_tumour(scan)
    pixel = options.field_of_view_mm / options.size
    taps, far = [], []
    for axis in (0, 1):
        cells, side = scan.brain.shape[axis], scan.spacing_mm[axis]
        low, high = _extent(np.count_nonzero(scan.brain, axis=(1 - axis, 2)))
        centre = (cells - (low + high) / 2) * side  # mm from the flipped axis' outer edge
        start = centre - options.field_of_view_mm / 2
        taps.append(resampling_taps(cells, start / side, pixel / side, options.size))
        far.append(scan.origin_mm[axis] + cells * side - start)
    empty = np.zeros((len(scan.kept), options.size, options.size), np.uint8)
    return replace(
        scan,
        pictures=Pictures(
            image=np.clip(_cut(scan.image, scan.kept, taps), 0, 1),
            brain=_cut_mask(scan.brain, scan.kept, taps),
            tumour=empty if scan.tumour is None else _cut_mask(scan.tumour, scan.kept, taps),
            window=Window(far[0], far[1], pixel),
        ),
    )


def _extent(counts: Ints) -> tuple[int, int]:
    """Where the brain begins and ends (exclusive) along an axis, given its voxels per line."""
    lines = np.flatnonzero(counts > _STRAY * counts.max())
    return int(lines[0]), int(lines[-1]) + 1


def _cut(array: NDArray[Any], kept: Ints, taps: list[Taps]) -> NDArray[np.float32]:
    pictures = array.transpose(2, 1, 0)[:, ::-1, ::-1][kept]
    return apply_taps(apply_taps(pictures, taps[1], 1), taps[0], 2)


def _cut_mask(mask: NDArray[np.bool_], kept: Ints, taps: list[Taps]) -> NDArray[np.uint8]:
    return (_cut(mask, kept, taps) >= 0.5 - 1e-6).astype(np.uint8)
