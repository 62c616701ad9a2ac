"""The steps of a recipe: one function per option model of ``twinvae.config.recipe_steps``.

- `standard`: reorient, brain_mask (with `hdbet`, or `template_mask` and its `head_place`),
  resample_in_plane, percentile_scale, select_slices, crop_resize
- `intensity`: bias_correction, nyul_scale, histogram_match, z_score
- `register`: register, and the template it registers to
- `mirror`: align_mirror

To add a step: its option model there, a function here (in a file that fits, or one imported below)
that is registered with ``apply_step.register``. A step receives its options, the scan's working
copy and what the recipe fitted for it on the training scans; it returns a new working copy. A
step that learns from the training scans also registers a function with ``fit_step.register``.
"""

from twinvae.imaging.steps import intensity, mirror, register, standard
from twinvae.imaging.steps.step import Fitted, Training, apply_step, fit_step

__all__ = [
    "Fitted",
    "Training",
    "apply_step",
    "fit_step",
    "intensity",
    "mirror",
    "register",
    "standard",
]
