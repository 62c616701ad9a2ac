"""Fit a recipe: what its steps learn from the training scans, one scan in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from twinvae.config import RecipeStep
from twinvae.errors import TwinvaeError
from twinvae.imaging.order import check_order
from twinvae.imaging.recipe import FittedRecipe, run_steps
from twinvae.imaging.scan import ScanFiles, Working
from twinvae.imaging.steps import Fitted, fit_step
from twinvae.progress import progress_bar


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
