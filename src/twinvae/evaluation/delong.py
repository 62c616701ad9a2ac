"""Variances and covariances of AUROCs without resampling, and the test of a difference.

DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
operating characteristic curves", Biometrics 44 (1988), for independent slices; and, where slices
come in clusters, Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53
(1997). With one slice a cluster the second is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Difference:
    """Two scores' AUROCs on the same slices, and whether they differ."""

    first: float
    second: float
    standard_error: float
    """Of ``first`` − ``second``."""
    z: float
    """The difference in standard errors."""
    p_value: float
    """Two-sided, by the normal distribution: chance of so large a |z| without a difference."""


def auroc_covariance(
    scores: Sequence[FloatArray], positive: BoolArray, subject: IntArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """AUROCs (scores,) and the covariance matrix of their estimates (scores, scores).

    ``scores``: one (n,) array each; ``positive``: (n,); ``subject``: (n,) codes of the clusters,
    by default a cluster for each slice. NaN where there are fewer than two clusters with positive
    or with negative slices.
    """
    cluster = np.arange(len(positive)) if subject is None else np.asarray(subject)
    n_clusters = int(cluster.max(initial=-1)) + 1
    sizes = [np.bincount(cluster[c], minlength=n_clusters) for c in (positive, ~positive)]
    n_pos, n_neg = (int(size.sum()) for size in sizes)
    with_pos, with_neg = (int((size > 0).sum()) for size in sizes)
    clusters = int(((sizes[0] + sizes[1]) > 0).sum())
    if min(with_pos, with_neg) < 2:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    placed = [_placements(np.asarray(score), positive) for score in scores]
    aurocs = np.array([mine.mean() for mine, _ in placed])

    def deviations(side: int, chosen: BoolArray) -> FloatArray:
        """(scores, clusters): summed placements less what they are expected to be."""
        sums = [np.bincount(cluster[chosen], p[side], minlength=n_clusters) for p in placed]
        return np.stack(sums) - aurocs[:, None] * sizes[side]

    of_pos, of_neg = deviations(0, positive), deviations(1, ~positive)
    cross = of_pos @ of_neg.T * clusters / (clusters - 1) / (n_pos * n_neg)
    return aurocs, (
        of_pos @ of_pos.T * with_pos / (with_pos - 1) / n_pos**2
        + of_neg @ of_neg.T * with_neg / (with_neg - 1) / n_neg**2
        + cross
        + cross.T
    )


def auroc_difference(
    first: FloatArray, second: FloatArray, positive: BoolArray, subject: IntArray | None = None
) -> Difference:
    """Test whether two scores of the same slices have the same AUROC; see ``auroc_covariance``.

    ``z`` and ``p_value`` are NaN where the difference has no spread, as for a score and itself.
    """
    aurocs, covariance = auroc_covariance((first, second), positive, subject)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    spread = float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else float("nan")
    gap = float(aurocs[0] - aurocs[1])
    z = gap / spread if spread > _NO_SPREAD else float("nan")
    return Difference(float(aurocs[0]), float(aurocs[1]), spread, z, float(2 * ndtr(-abs(z))))


_NO_SPREAD = 1e-12


def _placements(score: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Share of negatives below each positive, and of positives above each negative; ties half."""
    high, low = score[positive], score[~positive]
    below = _mean_rank(np.sort(low), high) / len(low)
    above = 1 - _mean_rank(np.sort(high), low) / len(high)
    return below, above


def _mean_rank(ordered: FloatArray, values: FloatArray) -> FloatArray:
    """How many of ``ordered`` are below each of ``values``, equal ones counted by half."""
    left = np.searchsorted(ordered, values, side="left")
    return np.asarray((left + np.searchsorted(ordered, values, side="right")) / 2)
