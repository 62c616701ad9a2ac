"""Resample each axial slice to square pixels; neighbouring slices are never mixed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.config import ResampleInPlane
from twinvae.errors import DataError
from twinvae.imaging.resample import Taps, apply_taps, resampling_taps
from twinvae.imaging.scan import Working
from twinvae.imaging.steps.base import Fitted, apply_step
from twinvae.imaging.volume import Bools


@apply_step.register
def resample_in_plane(options: ResampleInPlane, scan: Working, fitted: Fitted) -> Working:
    """Resample x and y about the volume's middle; masks keep pixels at least half covered.

    A pixel on the brain's rim averages over the brain inside it, not over the void around.
    """
    del fitted
    taps, origin = [], []
    for axis in (0, 1):
        cells, side = scan.image.shape[axis], scan.spacing_mm[axis]
        count = int(np.ceil(round(cells * side / options.pixel_mm, 6)))
        start = (cells * side - count * options.pixel_mm) / 2
        taps.append(resampling_taps(cells, start / side, options.pixel_mm / side, count))
        origin.append(scan.origin_mm[axis] + start)
    cover = _resampled(scan.brain, taps)
    brain: Bools = cover >= 0.5
    if not brain.any():
        raise DataError(f"{scan.files.image}: no brain is left on pixels of {options.pixel_mm} mm")
    image = _resampled(np.where(scan.brain, scan.image, np.float32(0)), taps)
    return replace(
        scan,
        image=np.where(brain, image / np.maximum(cover, np.float32(0.5)), np.float32(0)),
        spacing_mm=(options.pixel_mm, options.pixel_mm, scan.spacing_mm[2]),
        brain=brain,
        tumour=None if scan.tumour is None else _resampled(scan.tumour, taps) >= 0.5,
        origin_mm=(origin[0], origin[1]),
    )


def _resampled(array: NDArray[Any], taps: list[Taps]) -> NDArray[np.float32]:
    return apply_taps(apply_taps(array, taps[0], 0), taps[1], 1)
