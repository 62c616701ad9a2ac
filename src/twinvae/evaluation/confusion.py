"""Calibrated thresholds held against the truth: what they find, miss and wrongly call abnormal.

First verdicts and their counts, for ``metrics.tsv``; then, for ``audit.json``, how often thresholds
and p-values are wrong on slices without tumour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.decision import Calibration, called, p_values, scan_verdicts
from twinvae.evaluation.resampling import (
    BoolArray,
    Estimate,
    FloatArray,
    IntArray,
    Resampled,
    multiplicities,
    ratio,
    summary,
)
from twinvae.evaluation.subsets import by_source, by_third, subject_codes
from twinvae.scoring.table import scan_key

VERDICT_METRICS = (
    "accuracy",
    "f1",
    "sensitivity",
    "specificity",
    "precision",
    "balanced_accuracy",
)
"""In the order of ``metrics.tsv``."""
P_VALUE_LEVELS = (0.01, 0.05)
"""Levels at which p-values are held against their promise."""
Verdicts = dict[str, BoolArray | None]
"""Suffix of the metrics' names → which rows are called abnormal; None without a calibration."""


@dataclass(frozen=True)
class Counts:
    """True and false positives and negatives, as arrays of one shape."""

    tp: FloatArray
    fp: FloatArray
    fn: FloatArray
    tn: FloatArray

    def metrics(self) -> dict[str, FloatArray]:
        """Each of ``VERDICT_METRICS``; NaN where its denominator is 0, F1 also without positives.

        The F1 of a sample without a positive would be 0 whatever the verdicts were.
        """
        positives = self.tp + self.fn
        negatives = self.fp + self.tn
        sensitivity = ratio(self.tp, positives)
        specificity = ratio(self.tn, negatives)
        f1 = ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)
        return {
            "accuracy": ratio(self.tp + self.tn, positives + negatives),
            "f1": np.where(positives > 0, f1, np.nan),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "precision": ratio(self.tp, self.tp + self.fp),
            "balanced_accuracy": (sensitivity + specificity) / 2,
        }

    def total(self) -> Counts:
        """Summed over all entries."""
        return Counts(*(np.asarray(part.sum()) for part in (self.tp, self.fp, self.fn, self.tn)))

    def resampled(self, draws: FloatArray) -> Counts:
        """Counts (resamples,) when entry s, a subject, is drawn ``draws[:, s]`` times."""
        return Counts(*(draws @ part for part in (self.tp, self.fp, self.fn, self.tn)))


def counts_by_subject(
    abnormal: BoolArray, positive: BoolArray, subject: IntArray, n_subjects: int
) -> Counts:
    """Counts (n_subjects,) of verdicts ``abnormal`` against truth ``positive``, both (n,)."""

    def count(chosen: BoolArray) -> FloatArray:
        return np.bincount(subject[chosen], minlength=n_subjects).astype(np.float64)

    return Counts(
        tp=count(abnormal & positive),
        fp=count(abnormal & ~positive),
        fn=count(~abnormal & positive),
        tn=count(~abnormal & ~positive),
    )


def slice_verdicts(calibration: Calibration, rows: pd.DataFrame, score: str) -> Verdicts:
    """By each threshold of ``score``; the suffix is empty for the first, which verdicts use."""
    if score not in calibration["scores"]:
        return {"": None}
    return {
        f"@{entry['percentile']:g}" if number else "": abnormal
        for number, (entry, abnormal) in enumerate(called(calibration, rows, score))
    }


def subject_verdicts(calibration: Calibration, rows: pd.DataFrame, score: str) -> Verdicts:
    """A subject, in the order of its code, is abnormal when one of its scans is."""
    if score not in calibration["scores"]:
        return {"": None}
    subject, n_subjects = subject_codes(rows)
    abnormal = np.zeros(n_subjects, dtype=bool)
    groups = rows.groupby(scan_key(rows), sort=False).indices
    scans = [np.asarray(places, dtype=np.int64) for places in groups.values()]
    for places, verdict in zip(scans, scan_verdicts(calibration, rows, scans, score), strict=True):
        abnormal[subject[places[0]]] |= verdict.abnormal
    return {"": abnormal}


class FalsePositives:
    """The calibrated thresholds on healthy-source and on mixed slices without tumour.

    ``free``: mixed slices without any tumour pixel; ``slivers``: those with too few of them to be
    tumour slices, which are counted apart, since calling them abnormal is not wrong.
    """

    def __init__(
        self,
        healthy: pd.DataFrame,
        free: pd.DataFrame,
        slivers: pd.DataFrame,
        calibration: Calibration,
        resamples: int,
        seed: int,
    ) -> None:
        self._calibration = calibration
        self._groups = {
            where: _Group(rows, resamples, seed)
            for where, rows in (("healthy", healthy), ("tumour_free", free))
        }
        self._slivers = _Group(slivers, resamples, seed)

    def of(self, score: str) -> list[dict[str, Any]]:
        """What each threshold of a score gives; empty for a score without calibration."""
        if score not in self._calibration["scores"]:
            return []
        found = {
            where: called(self._calibration, group.rows, score)
            for where, group in self._groups.items()
        }
        slivers = called(self._calibration, self._slivers.rows, score)
        return [
            {
                "percentile": entry["percentile"],
                "threshold": entry["threshold"],
                "target": entry["target_fpr"],
                "cross_validated": entry["cross_validated_fpr"],
                **self._rates({where: each[place][1] for where, each in found.items()}),
                "sliver": self._slivers.rate(slivers[place][1]),
            }
            for place, (entry, _) in enumerate(found["healthy"])
        ]

    def p_values(self, score: str) -> dict[str, Any] | None:
        """How far p-values are from uniform; None for a score without calibration."""
        if score not in self._calibration["scores"]:
            return None
        return {
            where: p_value_calibration(
                p_values(self._calibration, group.rows, score), group.subject, group.draws
            )
            for where, group in self._groups.items()
        }

    def _rates(self, abnormal: dict[str, BoolArray]) -> dict[str, Any]:
        groups = self._groups.items()
        return {
            **{where: group.rate(abnormal[where]) for where, group in groups},
            "by_position": {
                where: group.rates(abnormal[where], by_third(group.rows)) for where, group in groups
            },
            "by_source": {
                where: group.rates(abnormal[where], by_source(group.rows))
                for where, group in groups
            },
        }


class _Group:
    """Slices without tumour, and resamples of their subjects."""

    def __init__(self, rows: pd.DataFrame, resamples: int, seed: int) -> None:
        self.rows = rows
        self.subject, self.n_subjects = subject_codes(rows)
        self.draws: FloatArray = multiplicities(self.n_subjects, resamples, seed)

    def rate(self, abnormal: BoolArray, among: BoolArray | None = None) -> Estimate:
        """Share of the slices ``among`` (by default all) that are called abnormal."""
        chosen = np.ones(len(self.rows), dtype=bool) if among is None else among
        sizes = np.bincount(self.subject[chosen], minlength=self.n_subjects)
        wrong = np.bincount(self.subject[chosen & abnormal], minlength=self.n_subjects)
        value = float(ratio(wrong.sum(), sizes.sum()))
        found = Resampled(value, ratio(self.draws @ wrong, self.draws @ sizes))
        return summary(found, int((sizes > 0).sum()))

    def rates(self, abnormal: BoolArray, parts: dict[str, BoolArray]) -> dict[str, Estimate]:
        """The same for each of several parts."""
        return {name: self.rate(abnormal, among) for name, among in parts.items()}


def p_value_calibration(
    p_values: npt.ArrayLike, subject: IntArray, draws: FloatArray
) -> dict[str, Any]:
    """How p-values of slices without tumour are distributed.

    ``p_values``: (n,) in [0, 1]; ``subject``: (n,) codes; ``draws``: (resamples, subjects).
    Returns ``ks``, the largest distance between their distribution function and the uniform one
    (Kolmogorov–Smirnov; null without values), and ``rates``: for each of ``P_VALUE_LEVELS`` the
    share of p-values at or below it, with its interval over subjects: the level itself is wanted,
    or less.
    """
    from scipy.stats import ks_1samp, uniform  # half a second, of which detection has no use

    values = np.asarray(p_values, dtype=np.float64)
    if np.isnan(values).any() or (values < 0).any() or (values > 1).any():
        raise ValueError("expected p-values between 0 and 1 and no NaN")
    sizes = np.bincount(subject, minlength=draws.shape[1])

    def rate(level: float) -> Estimate:
        small = np.bincount(subject[values <= level], minlength=draws.shape[1])
        share = float(ratio(small.sum(), sizes.sum()))
        found = Resampled(share, ratio(draws @ small, draws @ sizes))
        return summary(found, int((sizes > 0).sum()))

    return {
        "ks": float(ks_1samp(values, uniform.cdf).statistic) if len(values) else None,
        "rates": {f"{level:g}": rate(level) for level in P_VALUE_LEVELS},
    }
