"""Metrics of verdicts: what a threshold finds, misses and wrongly calls abnormal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, ratio

VERDICT_METRICS = (
    "accuracy",
    "f1",
    "sensitivity",
    "specificity",
    "precision",
    "balanced_accuracy",
)
"""In the order of ``metrics.tsv``."""


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
