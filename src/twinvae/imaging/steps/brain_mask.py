"""Find the brain, empty everything outside it, and count its pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twinvae.config import BrainMask
from twinvae.errors import DataError
from twinvae.imaging.hdbet import hd_bet_mask
from twinvae.imaging.scan import Working
from twinvae.imaging.steps.base import Fitted, apply_step
from twinvae.imaging.volume import Bools

_RIM_SHARE = 0.5  # a stripped scan has less than this of its outermost voxels non-zero,
_MOST_ML = 2500.0  # and less than this in all: no brain is larger, a head is


@apply_step.register
def brain_mask(options: BrainMask, scan: Working, fitted: Fitted) -> Working:
    """Decide on the brain mask and set the image to zero outside it."""
    del fitted
    if options.method == "given" and scan.given_brain is None:
        raise DataError(
            f"{scan.files.image}: expected a brain mask beside the scan, found none "
            f"(the recipe's brain_mask says method: given)"
        )
    if options.method == "hd_bet":
        brain = hd_bet_mask(scan.image, scan.spacing_mm, options.networks)
        if not brain.any():
            raise DataError(f"{scan.files.image}: HD-BET found no brain")
    elif options.method == "background" or scan.given_brain is None:
        brain = _background(scan)
    else:
        brain = scan.given_brain
    return replace(
        scan,
        image=np.where(brain, scan.image, np.float32(0)),
        given_brain=None,
        brain=brain,
        counted_brain=brain,
        brain_px=np.count_nonzero(brain, axis=(0, 1)),
        tumour_px=None if scan.tumour is None else np.count_nonzero(scan.tumour, axis=(0, 1)),
    )


def _background(scan: Working) -> Bools:
    """The non-zero voxels of a skull-stripped scan."""
    brain: Bools = scan.image != 0
    rim = [face for axis in range(3) for face in np.moveaxis(brain, axis, 0)[[0, -1]]]
    share = sum(int(face.sum()) for face in rim) / sum(face.size for face in rim)
    if share > _RIM_SHARE:
        raise DataError(
            f"{scan.files.image}: expected a brain mask or a skull-stripped scan on a background "
            f"of zero, found {share:.0%} of the outermost voxels not zero"
        )
    volume_ml = float(np.prod(scan.spacing_mm)) * np.count_nonzero(brain) / 1000
    if volume_ml > _MOST_ML:
        raise DataError(
            f"{scan.files.image}: expected a brain mask or a skull-stripped scan, found "
            f"{volume_ml:.0f} ml of voxels that are not zero; no brain is as large"
        )
    return brain
