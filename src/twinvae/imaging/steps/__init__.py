"""The steps of a recipe: one function per option model of ``twinvae.config.recipe_steps``.

To add a step: its option model there, a module here whose function is registered with
``apply_step.register``, and one import below. A step receives its options, the scan's working
copy and what the recipe fitted for it on the training scans; it returns a new working copy. A
step that learns from the training scans also registers a function with ``fit_step.register``.
"""

from twinvae.imaging.steps import (
    bias,
    brain_mask,
    crop,
    harmonise,
    register,
    reorient,
    resample,
    scale,
    select,
)
from twinvae.imaging.steps.base import Fitted, Training, apply_step, fit_step

__all__ = [
    "Fitted",
    "Training",
    "apply_step",
    "bias",
    "brain_mask",
    "crop",
    "fit_step",
    "harmonise",
    "register",
    "reorient",
    "resample",
    "scale",
    "select",
]
