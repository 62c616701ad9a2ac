"""Bring a volume to RAS+ by flips and axis swaps; no voxel changes its value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twinvae.config import Reorient
from twinvae.imaging.scan import Working
from twinvae.imaging.steps.base import Fitted, apply_step
from twinvae.imaging.volume import turn_of, turned


@apply_step.register
def reorient(options: Reorient, scan: Working, fitted: Fitted) -> Working:
    """Reorient the image and its masks; an oblique scan goes to the nearest axes."""
    del options, fitted
    turn = turn_of(scan.own_affine)
    spacing = [0.0, 0.0, 0.0]
    for axis, (target, _) in enumerate(turn):
        spacing[int(target)] = scan.spacing_mm[axis]
    sides = (spacing[0], spacing[1], spacing[2])
    image = turned(scan.image, turn)
    everything = np.broadcast_to(np.True_, image.shape)
    return replace(
        scan,
        orientation=turn,
        image=image,
        spacing_mm=sides,
        given_brain=None if scan.given_brain is None else turned(scan.given_brain, turn),
        brain=everything,
        tumour=None if scan.tumour is None else turned(scan.tumour, turn),
        counted_brain=everything,
        counted_spacing_mm=sides,
        brain_px=np.zeros(image.shape[2], np.int64),
        kept=np.arange(image.shape[2]),
    )
