"""A rule fitted on healthy slices: thresholds and p-values for any slice, kept as plain values.

Applying it needs NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinvae.config import DecisionConfig
from twinvae.decision.ranks import (
    Ranks,
    conformal_cutoffs,
    percentile_cutoffs,
    require_supported,
)
from twinvae.decision.rule import Rule, Shape
from twinvae.decision.sample import (
    BoolArray,
    FloatArray,
    Healthy,
    Places,
    Unit,
    weights,
)
from twinvae.errors import CalibrationError


@dataclass(frozen=True)
class FittedRule:
    """Thresholds of one score."""

    shape: Shape
    cutoffs: FloatArray
    """(percentiles, bins): standardised scores from here on are abnormal; infinite where nothing
    is."""
    ranks: tuple[Ranks, ...]
    """For each bin, the healthy standardised scores; empty when they were not kept."""

    def called(self, score: FloatArray, places: Places) -> BoolArray:
        """Which slices are abnormal, (percentiles, n)."""
        standardised = self.shape.standardised(score, places)
        found: BoolArray = standardised >= self.cutoffs[:, self.shape.bin_of(places)]
        return found

    def thresholds(self, places: Places) -> FloatArray:
        """The score from which each slice is abnormal, (percentiles, n)."""
        level, spread = self.shape.scale_at(places)
        return level + spread * self.cutoffs[:, self.shape.bin_of(places)]

    def p_values(self, score: FloatArray, places: Places) -> tuple[FloatArray, FloatArray]:
        """P-value of each slice and the smallest it could have had, both (n,).

        Raises ``CalibrationError`` when the calibration keeps no healthy scores.
        """
        if not self.ranks:
            raise CalibrationError(
                "calibration: expected healthy scores to rank among, found none; calibrate anew"
            )
        standardised, bins = self.shape.standardised(score, places), self.shape.bin_of(places)
        found, least = np.ones(len(score)), np.ones(len(score))
        for number in np.unique(bins):
            mine = bins == number
            found[mine] = self.ranks[number].p_values(standardised[mine])
            least[mine] = self.ranks[number].least
        return found, least

    def moved(self, shift: float, factor: float) -> FittedRule:
        """The rule for scores ``shift + factor · score``, factor positive."""
        return FittedRule(self.shape.moved(shift, factor), self.cutoffs, self.ranks)

    def to_json(self) -> dict[str, Any]:
        """As plain values; the cut-offs of an infinite threshold are null."""
        return {
            "shape": self.shape.to_json(),
            "cutoffs": [[c if np.isfinite(c) else None for c in row] for row in self.cutoffs],
            "healthy": [ranks.to_json() for ranks in self.ranks],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From the part ``slice`` of a score's calibration.

        With thresholds alone, they are the same for every slice.
        """
        bounds = [[entry["threshold"]] for entry in values["thresholds"]]
        cutoffs = np.array(values.get("cutoffs", bounds), dtype=np.float64)  # null becomes NaN
        return cls(
            Shape.from_json(values.get("shape", {})),
            np.where(np.isnan(cutoffs), np.inf, cutoffs),
            tuple(Ranks.from_json(part) for part in values.get("healthy", ())),
        )


def fit_rule(
    rule: Rule, healthy: Healthy, config: DecisionConfig, *, check: bool = False
) -> FittedRule:
    """Fit ``rule`` on healthy slices, at least one.

    With ``check`` it raises ``CalibrationError`` for a percentile that they cannot support.
    """
    unit = unit_of(rule, config)
    shape = rule.shape(healthy, config)
    standardised = shape.standardised(healthy.score, healthy.places)
    bins = shape.bin_of(healthy.places)
    cut: Callable[..., FloatArray] = conformal_cutoffs if rule.conformal else percentile_cutoffs
    cutoffs, ranks = [], []
    for number in range(shape.bins):
        mine = bins == number
        weight, count = weights(healthy.subject[mine], unit)
        for percentile in config.percentiles if check else ():
            what = f"healthy validation {unit}s{shape.describe_bin(number)}"
            require_supported(percentile, round(count), what, conformal=rule.conformal)
        cutoffs.append(cut(standardised[mine], weight, config.percentiles))
        just_below = np.nextafter(cutoffs[-1], -np.inf)
        ranks.append(Ranks.of(standardised[mine], weight, keep=just_below))
    return FittedRule(shape, np.stack(cutoffs, axis=1), tuple(ranks))


def unit_of(rule: Rule, config: DecisionConfig) -> Unit:
    """What counts as one observation."""
    return rule.unit if config.unit == "auto" else config.unit


@dataclass(frozen=True)
class OutOfFold:
    """What a rule says of healthy slices when it has not seen their subject."""

    called: BoolArray
    """(percentiles, n)."""
    p_value: FloatArray
    """(n,)."""
    least: FloatArray
    """(n,): the smallest p-value each could have had."""


def leave_one_out(rule: Rule, healthy: Healthy, config: DecisionConfig) -> OutOfFold | None:
    """Judge each subject's slices by the rule fitted on all others; None with one subject.

    A rule may leave out several subjects at a time (``Rule.folds``).
    """
    codes, subject = np.unique(healthy.subject, return_inverse=True)
    if len(codes) < 2:
        return None
    fold = subject % min(len(codes), rule.folds or len(codes))
    n = len(healthy.score)
    called = np.zeros((len(config.percentiles), n), bool)
    p_value, least = np.ones(n), np.ones(n)
    for left_out in np.unique(fold):
        mine = fold == left_out
        fitted, own = fit_rule(rule, healthy.only(~mine), config), healthy.only(mine)
        called[:, mine] = fitted.called(own.score, own.places)
        p_value[mine], least[mine] = fitted.p_values(own.score, own.places)
    return OutOfFold(called, p_value, least)
