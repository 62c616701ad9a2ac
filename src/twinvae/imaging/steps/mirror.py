"""The step align_mirror: each slice's mirror image, from the other half of the whole stack."""

from __future__ import annotations

from dataclasses import replace

from twinvae.config import AlignMirror
from twinvae.imaging.scan import Working
from twinvae.imaging.steps.step import Fitted, apply_step
from twinvae.imaging.symmetry import aligned_mirror


@apply_step.register
def align_mirror(options: AlignMirror, scan: Working, fitted: Fitted) -> Working:
    """Add the mirror images to the pictures, which stay as they are."""
    del fitted
    pictures = scan.pictures
    assert pictures is not None  # crop_resize comes before
    mirror = aligned_mirror(
        pictures.image,
        pictures.brain > 0,
        scan.position,
        pictures.window.pixel_mm,
        control_mm=options.control_mm,
        limit_mm=options.limit_mm,
        deform=options.deform,
    )
    return replace(scan, pictures=replace(pictures, mirror=mirror))
