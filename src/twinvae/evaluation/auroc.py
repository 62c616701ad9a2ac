"""Area under the ROC curve: the chance that a tumour slice scores above a tumour-free one.

Equal scores count one half. Kept as wins between pairs of subjects: ``wins[s, t]`` of the positive
slices of subject s over the negative slices of subject t, out of ``pairs[s, t]``. With subject s
drawn c_s times, AUROC is cᵀ·wins·c / cᵀ·pairs·c, so that thousands of resamples cost one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, ratio


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


def auroc(
    score: npt.ArrayLike, positive: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> float:
    """Weighted AUROC of one score by ranks; NaN unless both classes have weight.

    ``score``, ``positive``, ``weight``: (n,), finite; weights at least 0, by default 1 each.
    """
    values = np.asarray(score, dtype=np.float64)
    labels = np.asarray(positive, dtype=bool)
    weights = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.argsort(values[~labels], kind="stable")
    negatives = values[~labels][order]
    below = np.concatenate([[0.0], np.cumsum(weights[~labels][order])])
    left = np.searchsorted(negatives, values[labels], side="left")
    right = np.searchsorted(negatives, values[labels], side="right")
    wins = (weights[labels] * (below[left] + below[right]) / 2).sum()
    return float(ratio(wins, weights[labels].sum() * weights[~labels].sum()))


def pair_wins(
    score: FloatArray, positive: BoolArray, subject: IntArray, n_subjects: int
) -> PairWins:
    """All pairs of one positive and one negative slice, by sorting.

    ``score``, ``positive``, ``subject`` (codes below ``n_subjects``): (n,). Time and memory grow
    with n · subjects, not with n².
    """
    order = np.argsort(score[~positive], kind="stable")
    negatives = score[~positive][order]
    below = np.zeros((n_subjects, len(negatives) + 1))
    below[subject[~positive][order], np.arange(1, len(negatives) + 1)] = 1.0
    np.cumsum(below, axis=1, out=below)
    left = np.searchsorted(negatives, score[positive], side="left")
    right = np.searchsorted(negatives, score[positive], side="right")
    owner = np.zeros((n_subjects, int(positive.sum())))
    owner[subject[positive], np.arange(owner.shape[1])] = 1.0
    wins = owner @ (below[:, left] + below[:, right]).T / 2
    return PairWins(wins, np.outer(owner.sum(axis=1), below[:, -1]))


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


_BLOCK = 2_000_000  # candidate pairs looked at together


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
