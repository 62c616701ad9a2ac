"""Average precision: precision at each positive slice, averaged; read it beside the prevalence.

Σ (R_n − R_{n−1}) P_n over the distinct scores from the highest down, without interpolation, as
scikit-learn defines it.
"""

from __future__ import annotations

import numpy as np

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, ratio

_ELEMENTS = 1_000_000  # numbers held at once while resampling


def average_precision(score: FloatArray, positive: BoolArray) -> float:
    """Average precision of ``score`` (n,); NaN unless both classes are there."""
    found, called = _counts_at_positives(score, positive)
    if not positive.any() or positive.all():
        return float("nan")
    steps = np.diff(found, prepend=0.0)
    return float((steps * found / called).sum() / found[-1])


def resampled_average_precision(
    score: FloatArray, positive: BoolArray, subject: IntArray, draws: FloatArray
) -> FloatArray:
    """Average precision in each row of ``draws`` (resamples, subjects); NaN where undefined.

    Computed in float32, which holds the counts exactly and the result to about 1e-6; intervals
    need no more.
    """
    n_subjects = draws.shape[1]
    order = np.argsort(-score, kind="stable")
    ends = _ends_of_positive_groups(score[order], positive[order])
    owner = np.zeros((n_subjects, len(score)), dtype=np.float32)
    owner[subject[order], np.arange(len(score))] = 1.0
    called = np.cumsum(owner, axis=1)
    has_positive = np.unique(subject[positive])
    found = np.cumsum(owner[has_positive] * positive[order], axis=1)[:, ends]
    n_called, called = owner.sum(axis=1), called[:, ends]
    counts = draws.astype(np.float32)
    total = counts[:, has_positive] @ (found[:, -1] if len(ends) else np.zeros(len(has_positive)))
    negatives = counts @ n_called - total
    out = np.full(len(draws), np.nan)
    rows = max(1, _ELEMENTS // max(1, len(ends)))
    for start in range(0, len(draws), rows):
        part = slice(start, start + rows)
        above = counts[part][:, has_positive] @ found
        precision = above / np.maximum(counts[part] @ called, 1.0)
        above[:, 1:] -= above[:, :-1].copy()
        out[part] = ratio(np.einsum("ru,ru->r", above, precision), total[part])
    out[negatives == 0] = np.nan
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
