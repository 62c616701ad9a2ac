"""The recipe: its order of steps, fitting them on training scans, and applying them to one scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import TypeAdapter

from twinvae.config import AlignMirror, BrainMask, CropResize, RecipeStep, dump_config
from twinvae.errors import ConfigError, DataError, TwinvaeError
from twinvae.files import read_json
from twinvae.imaging.scan import (
    Look,
    ScanFiles,
    Working,
    check_axes,
    check_brain_place,
    check_tumour_place,
    load_scan,
)
from twinvae.imaging.steps import Fitted, apply_step, fit_step
from twinvae.imaging.steps.hdbet import hd_bet_installed
from twinvae.progress import progress_bar

_TO_UNIT = ("percentile_scale", "nyul_scale", "histogram_match", "z_score")
_BEFORE = {  # of two steps that both stand in the recipe
    "crop_resize": ("align_mirror",),
    "bias_correction": ("register", "resample_in_plane", *_TO_UNIT),
    "register": ("resample_in_plane", "select_slices"),
}
Stripping = Literal["hd_bet", "template"]
_STEP: TypeAdapter[RecipeStep] = TypeAdapter(RecipeStep)


@dataclass(frozen=True)
class FittedRecipe:
    """Steps, and for each what it fitted on the training scans: plain values, often none."""

    steps: tuple[RecipeStep, ...]
    fitted: tuple[Fitted, ...]

    @property
    def crop(self) -> CropResize:
        """The step that makes the pictures."""
        return next(step for step in self.steps if isinstance(step, CropResize))

    @property
    def aligned(self) -> bool:
        """Whether slices have an aligned mirror image beside them."""
        return any(isinstance(step, AlignMirror) for step in self.steps)

    @property
    def strips(self) -> Stripping | None:
        """How the brain is found in whole heads; None where a mask or the background tells it."""
        method = next(step.method for step in self.steps if isinstance(step, BrainMask))
        return method if method in ("hd_bet", "template") else None

    def stripping(self, method: Stripping | None = None) -> Self:
        """The same recipe for whole heads, whatever found the brain in training.

        Without ``method`` HD-BET where it is installed, else the template.
        """
        found = method or ("hd_bet" if hd_bet_installed() else "template")
        steps = tuple(
            step.model_copy(update={"method": found}) if isinstance(step, BrainMask) else step
            for step in self.steps
        )
        return replace(self, steps=steps)

    def to_json(self) -> dict[str, Any]:
        """As plain values for ``write_json``."""
        steps = [dump_config(step) for step in self.steps]
        return {"steps": steps, "fitted": [dict(values) for values in self.fitted]}

    @classmethod
    def from_json(cls, values: Any, where: str = "recipe") -> Self:
        """From what ``to_json`` gave; raises ``DataError`` naming ``where``."""
        try:
            steps = tuple(_STEP.validate_python(step) for step in values["steps"])
            fitted = tuple(dict(entry) for entry in values["fitted"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: expected a stored recipe, found {error}") from None
        if len(steps) != len(fitted):
            raise DataError(f"{where}: expected {len(steps)} fitted entries, found {len(fitted)}")
        check_order(steps)
        return cls(steps, fitted)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recipe.json."""
        return cls.from_json(read_json(path), str(path))


def check_order(steps: Sequence[RecipeStep]) -> None:
    """Raise ``ConfigError`` unless the steps can follow one another."""
    names: list[str] = [step.step for step in steps]
    found = f"found {', '.join(names) or 'no step'}"
    for name in sorted(set(names) - {"select_slices"}):
        if names.count(name) > 1:
            raise ConfigError(f"recipe: expected {name} at most once, {found}")
    last = names[:-1] if names[-1:] == ["align_mirror"] else names
    if last[-1:] != ["crop_resize"]:
        raise ConfigError(
            f"recipe: expected crop_resize as the last step but align_mirror, {found}"
        )
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


def learns(steps: Sequence[RecipeStep]) -> bool:
    """Whether any of the steps may learn from training scans."""
    nothing = fit_step.dispatch(object)
    return any(fit_step.dispatch(type(options)) is not nothing for options in steps)


def fit_recipe(steps: Sequence[RecipeStep], scans: Sequence[ScanFiles] = ()) -> FittedRecipe:
    """Fit the steps in order, each on training scans as the steps before it leave them.

    Of ``scans``, only those of the split `train` are ever read, and only as many as a step needs.
    Raises ``ConfigError`` for an impossible order, ``DataError`` when a step finds nothing to fit
    on. The order of ``scans`` does not matter.
    """
    check_order(steps)
    train = sorted(
        (scan for scan in scans if scan.split == "train"),
        key=lambda scan: (scan.source, scan.subject, scan.session, str(scan.image)),
    )
    fitted: list[Fitted] = []
    for number, options in enumerate(steps):
        training = _TrainingScans(
            f"fit {options.step}", train, tuple(steps[:number]), tuple(fitted)
        )
        fitted.append(fit_step(options, training))
    return FittedRecipe(tuple(steps), tuple(fitted))


def run_steps(
    scan: ScanFiles,
    steps: Sequence[RecipeStep],
    fitted: Sequence[Fitted],
    look: Look | None = None,
) -> Working:
    """Read one scan and apply ``steps``, the first ones of a recipe or all; ``look`` may watch."""
    methods = [step.method for step in steps if isinstance(step, BrainMask)]
    working = load_scan(scan, read_brain=bool({"auto", "given"}.intersection(methods)))
    if steps[:1] and steps[0].step != "reorient":
        check_axes(working)
    if look is not None:
        look.as_read(working)
    for options, values in zip(steps, fitted, strict=True):
        if isinstance(options, BrainMask):
            check_brain_place(working)
        working = apply_step(options, working, values)
        if isinstance(options, BrainMask):
            if look is not None:
                look.with_brain(working)
            check_tumour_place(working)
    return working


@dataclass(frozen=True)
class _TrainingScans:
    """What a step may ask of the training scans (``Training``)."""

    label: str
    scans: Sequence[ScanFiles]
    before: tuple[RecipeStep, ...]
    fitted: tuple[Fitted, ...]

    def working(
        self, role: str, *, subject: str | None = None, at_most: int | None = None
    ) -> Iterator[Working]:
        """Scans as ``before`` leaves them; one that fails is replaced by another."""
        wanted = [
            scan
            for scan in self.scans
            if role in ("all", scan.role) and subject in (None, scan.subject)
        ]
        most = len(wanted) if at_most is None else min(at_most, len(wanted))
        left = most
        with progress_bar(self.label, most) as bar:
            for scan in _spread(wanted, most):
                if left == 0:
                    return
                bar.note(scan.subject)
                try:
                    yield run_steps(scan, self.before, self.fitted)
                except TwinvaeError:  # prepare will say why
                    continue
                left -= 1
                bar.advance()


def _spread(scans: list[ScanFiles], count: int) -> list[ScanFiles]:
    """All scans, ``count`` of them that are spread evenly over the list first."""
    picks = sorted({round(i) for i in np.linspace(0, len(scans) - 1, count).tolist()})
    first = [scans[i] for i in picks]
    return first + [scan for scan in scans if scan not in first]
