"""What a score finds while hardly calling a tumour-free slice: the left end of the ROC curve.

``sensitivity_at_specificity_95`` (and ``_99``): the highest sensitivity of any threshold whose
specificity is at least that; no interpolation, so that a threshold with it exists.
``partial_auroc``: the area under the ROC curve up to a false-positive rate of ``MAX_FPR``,
standardised so that chance is 0.5 and perfection 1 (McClish, "Analyzing a portion of the ROC
curve", Medical Decision Making 9 (1989)), as scikit-learn's ``roc_auc_score(max_fpr=…)`` gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, ratio

MAX_FPR = 0.1
"""False-positive rate up to which the partial AUROC looks."""
SPECIFICITIES = (95, 99)
"""In per cent."""
LOW_FPR_METRICS = (
    "partial_auroc",
    *(f"sensitivity_at_specificity_{percent}" for percent in SPECIFICITIES),
)
"""In the order of ``metrics.tsv``."""

_ROWS = 500  # resamples computed together
_ROUNDING = 1e-3  # of a slice, when a count is held against a share of all slices

AnyFloat = npt.NDArray[np.floating]


def low_fpr_metrics(
    score: FloatArray, positive: BoolArray, subject: IntArray, draws: AnyFloat
) -> dict[str, FloatArray]:
    """Each of ``LOW_FPR_METRICS`` in each row of ``draws`` (resamples, subjects).

    ``score``, ``positive``, ``subject`` (codes): (n,). One row of ones gives the metrics of the
    sample itself. Computed in the precision of ``draws``; float32 holds the counts exactly. NaN
    where a class is missing.
    """
    if positive.all() or not positive.any():
        return {name: np.full(len(draws), np.nan) for name in LOW_FPR_METRICS}
    cutoffs = np.unique(score[~positive])[::-1]
    needed = max(1, len(cutoffs) // 4)
    while True:
        counts = _Counts.at(cutoffs[:needed], score, positive, subject, draws.shape[1])
        if needed >= len(cutoffs) or counts.reach_far_enough(draws):
            break
        needed *= 2  # a resample may repeat the subjects of the highest negatives
    starts = range(0, max(1, len(draws)), _ROWS)  # one part at least, if an empty one
    parts = [counts.metrics(draws[start : start + _ROWS]) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in LOW_FPR_METRICS}


@dataclass(frozen=True)
class _Counts:
    """Slices of each subject beyond falling cut-offs, the scores of negatives."""

    called: FloatArray
    """(subjects, cutoffs): negatives at or above the cut-off."""
    above: FloatArray
    """(subjects, cutoffs): positives above it."""
    equal: FloatArray
    """(subjects, cutoffs): positives at it."""
    negatives: FloatArray
    """(subjects,): all negatives."""
    positives: FloatArray
    """(subjects,): all positives."""

    @classmethod
    def at(
        cls,
        cutoffs: FloatArray,
        score: FloatArray,
        positive: BoolArray,
        subject: IntArray,
        n_subjects: int,
    ) -> _Counts:
        """Count slices at ``cutoffs`` (falling)."""

        def beyond(chosen: BoolArray, side: Literal["left", "right"]) -> FloatArray:
            place = np.searchsorted(-cutoffs, -score[chosen], side=side)
            counts = np.zeros((n_subjects, len(cutoffs) + 1))
            np.add.at(counts, (subject[chosen], place), 1.0)
            return np.asarray(np.cumsum(counts[:, :-1], axis=1))

        def total(chosen: BoolArray) -> FloatArray:
            return np.bincount(subject[chosen], minlength=n_subjects).astype(np.float64)

        above = beyond(positive, "right")
        return cls(
            called=beyond(~positive, "left"),
            above=above,
            equal=beyond(positive, "left") - above,
            negatives=total(~positive),
            positives=total(positive),
        )

    def reach_far_enough(self, draws: AnyFloat) -> bool:
        """Whether the last cut-off is below ``MAX_FPR`` in every resample."""
        return bool((draws @ self.called[:, -1] > MAX_FPR * (draws @ self.negatives)).all())

    def metrics(self, draws: AnyFloat) -> dict[str, FloatArray]:
        """The metrics in each row of ``draws``.

        At each cut-off the ROC curve goes from (before, above) to (called, above + equal), in a
        straight line that is level unless positives and negatives are equal.
        """
        kind = draws.dtype
        called, above = draws @ self.called.astype(kind), draws @ self.above.astype(kind)
        n_neg, n_pos = draws @ self.negatives.astype(kind), draws @ self.positives.astype(kind)
        before = np.concatenate([np.zeros_like(called[:, :1]), called[:, :-1]], axis=1)
        width = (MAX_FPR * n_neg[:, None] - before).clip(0, called - before)
        height = above
        if self.equal.any():
            equal = draws @ self.equal.astype(kind)
            share = np.divide(width, called - before, out=np.zeros_like(width), where=width > 0)
            height = above + equal * share / 2
        area = ratio((width * height).sum(axis=1, dtype=np.float64), n_neg * n_pos)
        least = MAX_FPR**2 / 2
        out = {"partial_auroc": (1 + (area - least) / (MAX_FPR - least)) / 2}
        for percent, name in zip(SPECIFICITIES, LOW_FPR_METRICS[1:], strict=True):
            allowed = n_neg * (1 - percent / 100) + _ROUNDING
            place = (called <= allowed[:, None]).sum(axis=1).clip(max=called.shape[1] - 1)
            out[name] = ratio(np.take_along_axis(above, place[:, None], axis=1)[:, 0], n_pos)
            out[name][n_neg == 0] = np.nan
        return out
