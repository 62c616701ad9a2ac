"""Area under the ROC curve: the chance that a tumour slice scores above a tumour-free one.

Raw over all pairs of a positive and a negative slice (``sweep`` counts them), matched over pairs of
similar slices. Equal scores count one half. Matched pairs are kept as wins between pairs of
subjects: ``wins[s, t]`` of the positive slices of subject s over the negative slices of subject t,
out of ``pairs[s, t]``. With subject s drawn c_s times, AUROC is cᵀ·wins·c / cᵀ·pairs·c, so that
thousands of resamples cost one product.

At the end, variances without resampling and the test of a difference: DeLong, DeLong and
Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
curves", Biometrics 44 (1988), for independent slices; and, where slices come in clusters,
Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53 (1997). With one
slice a cluster the second is the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, Resampled, ratio
from twinvae.evaluation.sweep import swept

_BLOCK = 2_000_000  # candidate pairs looked at together
_NO_SPREAD = 1e-12  # a difference whose standard error is no larger is not tested


@dataclass(frozen=True)
class PairWins:
    """Wins of positive over negative slices, by subject of the one and of the other."""

    wins: FloatArray
    """(subjects, subjects): a win counts 1, equal scores one half."""
    pairs: FloatArray
    """(subjects, subjects): pairs compared."""

    def auroc(self) -> float:
        """The AUROC itself; NaN without a pair."""
        return float(ratio(self.wins.sum(), self.pairs.sum()))

    def resampled(self, draws: FloatArray) -> FloatArray:
        """AUROC in each row of ``draws`` (resamples, subjects); NaN where a row has no pair."""
        wins = ((draws @ self.wins) * draws).sum(axis=1)
        return ratio(wins, ((draws @ self.pairs) * draws).sum(axis=1))


def raw_auroc(
    score: FloatArray, positive: BoolArray, subject: IntArray, draws: FloatArray
) -> Resampled:
    """Over all pairs of one positive and one negative slice.

    ``score``, ``positive``, ``subject`` (codes): (n,); ``draws``: (resamples, subjects). Time grows
    with n · resamples.
    """
    people = (score, positive, subject)
    once = swept(*people, np.ones((1, draws.shape[1])), curves=False)
    drawn = swept(*people, draws.astype(np.float32), curves=False)
    return Resampled(float(once.auroc[0]), drawn.auroc)


@dataclass(frozen=True)
class Matching:
    """When two slices count as similar, so that neither area nor position tells them apart."""

    log_area: float
    """Their log brain areas differ by less than this, …"""
    position: float
    """… and their relative positions by less than this."""


@dataclass(frozen=True)
class _Block:
    """Some pairs, sorted by the subjects of both."""

    first: npt.NDArray[np.int32]
    """Numbers of the positive slices; (pairs,)."""
    second: npt.NDArray[np.int32]
    """Numbers of the negative slices; (pairs,)."""
    starts: IntArray
    """Where each run of pairs of the same two subjects starts; (runs,)."""
    sizes: IntArray
    """How many pairs each run has; (runs,)."""
    cells: IntArray
    """subject of the positive · subjects + subject of the negative; (runs,), no two the same."""


@dataclass(frozen=True)
class MatchedPairs:
    """Pairs of one positive and one negative slice of similar area and position.

    Pairs lie within and across subjects.
    """

    blocks: tuple[_Block, ...]
    subject: IntArray
    """(n,) codes of the slices' subjects."""
    n_subjects: int

    @property
    def count(self) -> int:
        """Number of pairs."""
        return sum(len(block.first) for block in self.blocks)

    @cached_property
    def members(self) -> tuple[int, int, int]:
        """How many positive slices, negative slices and subjects have a partner."""
        chosen = np.zeros((2, len(self.subject)), dtype=bool)
        for block in self.blocks:
            chosen[0, block.first] = True
            chosen[1, block.second] = True
        people = np.unique(self.subject[chosen.any(axis=0)])
        return int(chosen[0].sum()), int(chosen[1].sum()), len(people)

    def wins(self, score: FloatArray) -> PairWins:
        """Who wins each pair by ``score`` (n,), summed by subjects."""
        ranks = np.unique(score, return_inverse=True)[1].astype(np.int32)
        twice = np.zeros(self.n_subjects**2)
        pairs = np.zeros(self.n_subjects**2)
        for block in self.blocks:
            sign = np.sign(ranks[block.first] - ranks[block.second])
            twice[block.cells] += np.add.reduceat(sign, block.starts, dtype=np.int64) + block.sizes
            pairs[block.cells] += block.sizes
        shape = (self.n_subjects, self.n_subjects)
        return PairWins((twice / 2).reshape(shape), pairs.reshape(shape))


def match_pairs(
    positive: BoolArray,
    subject: IntArray,
    n_subjects: int,
    log_area: FloatArray,
    position: FloatArray,
    matching: Matching,
) -> MatchedPairs:
    """Find the similar pairs; all arrays (n,). Slices without brain (log area −inf) match none."""
    usable = np.isfinite(log_area) & np.isfinite(position)
    blocks = tuple(
        _sorted_block(first, second, subject, n_subjects)
        for first, second in close_pairs(
            np.flatnonzero(positive & usable),
            np.flatnonzero(~positive & usable),
            log_area,
            position,
            matching,
        )
        if len(first)
    )
    return MatchedPairs(blocks, subject, n_subjects)


def close_pairs(
    positives: IntArray,
    negatives: IntArray,
    log_area: FloatArray,
    position: FloatArray,
    matching: Matching,
) -> Iterator[tuple[IntArray, IntArray]]:
    """Blocks of similar pairs, found among negatives sorted by position."""
    negatives = negatives[np.argsort(position[negatives], kind="stable")]
    places = position[negatives]
    # A margin around the window, then the exact rule: rounding must not decide.
    reach = matching.position * (1 + 1e-9) + 1e-12
    low = np.searchsorted(places, position[positives] - reach, side="left")
    high = np.searchsorted(places, position[positives] + reach, side="right")
    ends = np.cumsum(high - low)
    start = 0
    while start < len(positives):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
        counts = (high - low)[start:stop]
        first = np.repeat(positives[start:stop], counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        second = negatives[np.repeat(low[start:stop], counts) + within]
        close = np.abs(position[first] - position[second]) < matching.position
        close &= np.abs(log_area[first] - log_area[second]) < matching.log_area
        yield first[close], second[close]
        start = stop


def _sorted_block(first: IntArray, second: IntArray, subject: IntArray, n_subjects: int) -> _Block:
    cells = subject[first] * n_subjects + subject[second]
    order = np.argsort(cells, kind="stable")
    cells = cells[order]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    return _Block(
        first[order].astype(np.int32),
        second[order].astype(np.int32),
        starts,
        np.diff(starts, append=len(cells)),
        cells[starts],
    )


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
