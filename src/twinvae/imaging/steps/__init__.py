"""The steps of a recipe: one function per option model of ``twinvae.config.recipe``.

To add a step: its option model there, a module here whose function is registered with
``apply_step.register``, and one import below. A step receives its options, the scan's working
copy and what the recipe fitted for it on the training scans; it returns a new working copy.
"""

from twinvae.imaging.steps import brain_mask, crop, reorient, resample, scale, select
from twinvae.imaging.steps.base import Fitted, apply_step

__all__ = [
    "Fitted",
    "apply_step",
    "brain_mask",
    "crop",
    "reorient",
    "resample",
    "scale",
    "select",
]
