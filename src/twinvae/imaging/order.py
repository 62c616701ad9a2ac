"""In which order the steps of a recipe can follow one another."""

from __future__ import annotations

from collections.abc import Sequence

from twinvae.config import RecipeStep
from twinvae.errors import ConfigError

_TO_UNIT = ("percentile_scale", "nyul_scale", "histogram_match", "z_score")
_BEFORE = {  # of two steps that both stand in the recipe
    "bias_correction": ("register", "resample_in_plane", *_TO_UNIT),
    "register": ("resample_in_plane", "select_slices"),
}


def check_order(steps: Sequence[RecipeStep]) -> None:
    """Raise ``ConfigError`` unless the steps can follow one another."""
    names: list[str] = [step.step for step in steps]
    found = f"found {', '.join(names) or 'no step'}"
    for name in sorted(set(names) - {"select_slices"}):
        if names.count(name) > 1:
            raise ConfigError(f"recipe: expected {name} at most once, {found}")
    if names[-1:] != ["crop_resize"]:
        raise ConfigError(f"recipe: expected crop_resize as the last step, {found}")
    if "reorient" in names[1:]:
        raise ConfigError(f"recipe: expected reorient as the first step, {found}")
    rest = names[1:] if names[0] == "reorient" else names
    if rest[0] != "brain_mask":
        raise ConfigError(f"recipe: expected brain_mask before all steps but reorient, {found}")
    if sum(name in _TO_UNIT for name in names) > 1:
        raise ConfigError(f"recipe: expected at most one of {', '.join(_TO_UNIT)}, {found}")
    for early, lates in _BEFORE.items():
        for late in lates:
            if early in names and late in names and names.index(late) < names.index(early):
                raise ConfigError(f"recipe: expected {early} before {late}, {found}")
