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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, Resampled, ratio
from twinvae.evaluation.similar import Matching, Matrix, Similar, matrix_of, similar_pairs
from twinvae.evaluation.sweep import swept

_ROWS = 500  # resamples computed together
_NO_SPREAD = 1e-12  # a difference whose standard error is no larger is not tested


@dataclass(frozen=True)
class PairWins:
    """Wins of positive over negative slices, by subject of the one and of the other."""

    wins: Matrix
    """(subjects, subjects): a win counts 1, equal scores one half."""
    pairs: Matrix
    """(subjects, subjects): pairs compared."""

    def auroc(self) -> float:
        """The AUROC itself; NaN without a pair."""
        return float(ratio(self.wins.sum(), self.pairs.sum()))


def between(matrix: Matrix, draws: FloatArray) -> FloatArray:
    """cᵀ·matrix·c for each row c of ``draws``; (resamples,), to about 1e-6 of their sizes."""
    matrix, draws = matrix.astype(np.float32), draws.astype(np.float32)
    found = [
        np.einsum("rs,rs->r", part @ matrix, part, dtype=np.float64)
        for part in (draws[start : start + _ROWS] for start in range(0, len(draws), _ROWS))
    ]
    return np.concatenate(found) if found else np.empty(0)


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
class _Block:
    """Some pairs, sorted by the subjects of both."""

    first: npt.NDArray[np.int32]
    """Numbers of the positive slices; (pairs,)."""
    second: npt.NDArray[np.int32]
    """Numbers of the negative slices; (pairs,)."""
    stands_for: FloatArray
    """How many pairs each stands for; (pairs,)."""
    starts: IntArray
    """Where each run of pairs of the same two subjects starts; (runs,)."""
    cells: IntArray
    """subject of the positive · subjects + subject of the negative; (runs,), no two the same."""


@dataclass(frozen=True)
class MatchedPairs:
    """Pairs of one positive and one negative slice of similar area and position.

    Pairs lie within and across subjects. Where there are very many, some stand for all
    (``similar``).
    """

    blocks: tuple[_Block, ...]
    subject: IntArray
    """(n,) codes of the slices' subjects."""
    n_subjects: int

    @property
    def count(self) -> int:
        """Number of pairs that are compared."""
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

    @cached_property
    def pairs(self) -> Matrix:
        """How many there are, by subject of the positive and of the negative slice."""
        return self._by_subjects(block.stands_for for block in self.blocks)

    def wins(self, score: FloatArray) -> PairWins:
        """Who wins each pair by ``score`` (n,), summed by subjects."""
        ranks = np.unique(score, return_inverse=True)[1].astype(np.int32)
        wins = self._by_subjects(
            block.stands_for * ((1 + np.sign(ranks[block.first] - ranks[block.second])) / 2)
            for block in self.blocks
        )
        return PairWins(wins, self.pairs)

    @cached_property
    def _cells(self) -> tuple[IntArray, tuple[IntArray, ...]]:
        """The pairs of subjects that occur, rising, and the place of each block's among them."""
        cells = np.concatenate([np.empty(0, np.int64), *(block.cells for block in self.blocks)])
        cells.sort()  # np.unique hashes whole numbers, ten times slower for so many
        cells = cells[np.diff(cells, prepend=-1) != 0]
        return cells, tuple(np.searchsorted(cells, block.cells) for block in self.blocks)

    def _by_subjects(self, values: Iterable[FloatArray]) -> Matrix:
        cells, places = self._cells
        sums = np.zeros(len(cells))
        for block, place, each in zip(self.blocks, places, values, strict=True):
            sums[place] += np.add.reduceat(each, block.starts)
        row, column = np.divmod(cells, self.n_subjects)
        return matrix_of(sums, row, column, (self.n_subjects, self.n_subjects))


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
    numbers = np.flatnonzero(positive & usable), np.flatnonzero(~positive & usable)
    blocks = tuple(
        _sorted_block(found, subject, n_subjects)
        for found in similar_pairs(*numbers, log_area, position, matching)
        if len(found.first)
    )
    return MatchedPairs(blocks, subject, n_subjects)


def _sorted_block(found: Similar, subject: IntArray, n_subjects: int) -> _Block:
    cells = subject[found.first] * n_subjects + subject[found.second]
    order = np.argsort(cells, kind="stable")
    cells = cells[order]
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    return _Block(
        found.first[order].astype(np.int32),
        found.second[order].astype(np.int32),
        found.stands_for[order],
        starts,
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
