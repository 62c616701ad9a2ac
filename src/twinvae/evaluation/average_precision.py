"""Average precision: precision at each positive slice, averaged; read it beside the prevalence.

Σ (R_n − R_{n−1}) P_n over the distinct scores from the highest down, without interpolation, as
scikit-learn defines it.
"""

from __future__ import annotations

import numpy as np

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, ratio
from twinvae.evaluation.sweep import Swept


def average_precision(score: FloatArray, positive: BoolArray) -> float:
    """Average precision of ``score`` (n,); NaN unless both classes are there."""
    found, called = _counts_at_positives(score, positive)
    if not positive.any() or positive.all():
        return float("nan")
    steps = np.diff(found, prepend=0.0)
    return float((steps * found / called).sum() / found[-1])


def resampled_average_precision(found: Swept) -> FloatArray:
    """Average precision in each resample of a sweep; NaN unless both classes are there."""
    out = ratio(found.precision, found.positives)
    out[found.negatives == 0] = np.nan
    return out


def _ends_of_positive_groups(score: FloatArray, positive: BoolArray) -> IntArray:
    """Last places of groups of equal scores that hold a positive; arrays sorted, highest first."""
    ends = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.empty(0, int)
    gained = np.diff(np.cumsum(positive)[ends], prepend=0)
    return np.asarray(ends[gained > 0], dtype=np.int64)


def _counts_at_positives(score: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Positives, and slices, at or above each distinct score of a positive, from the highest."""
    order = np.argsort(-score, kind="stable")
    ends = _ends_of_positive_groups(score[order], positive[order])
    found = np.cumsum(positive[order])[ends].astype(np.float64)
    return found, (ends + 1).astype(np.float64)
