"""Covariate-adjusted AUROC: each tumour slice among tumour-free slices of its own area and place.

Janes and Pepe, "Adjusting for covariate effects on classification accuracy using the
covariate-adjusted receiver operating characteristic curve", Biometrika 96 (2009): a positive slice
i with covariates x_i has the placement value u_i, the share of the negatives *with covariates x_i*
that score above it (equal scores count one half). The adjusted ROC curve is the distribution
function of the u_i; the area under it is the mean of 1 − u_i.

The conditional distribution of the negatives is estimated by the adjusted Nadaraya–Watson estimator
(Hall, Wolff and Yao, "Methods for estimating a conditional distribution function", JASA 94 (1999)):
negatives in a window around x_i are weighted by a product of Epanechnikov kernels in log brain area
and relative position, tilted so that their weighted mean covariates are x_i. Without the tilt, a
score that grows with area would still win inside the window wherever negatives lie to one side.
Here the tilt is exponential, w_ij ∝ K(d_ij) exp(λ_i · d_ij), d_ij in units of the window, with λ_i
minimising log Σ_j K(d_ij) exp(λ_i · d_ij) + ``RIDGE``/2 |λ_i|², which has one solution even where
all neighbours lie on one side. The weights do not depend on the score.

``ThreeAurocs`` gives it beside the raw and the matched AUROC of the same slices and resamples: no
AUROC is shown without the other two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from twinvae.config import EvaluationConfig
from twinvae.evaluation.auroc import MatchedPairs, between, match_pairs, raw_auroc
from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray, Resampled, ratio
from twinvae.evaluation.similar import Matching, Matrix, matrix_of, similar_pairs
from twinvae.evaluation.subsets import Sample

KINDS = ("raw", "matched", "adjusted")
"""Of AUROCs."""

RIDGE = 0.05
"""Keeps the tilt finite; what it leaves of the difference in covariates is RIDGE · λ windows."""
_STEPS = 25  # of Newton's method; from 0 it needs about 5
_COLUMNS = 256  # resamples computed together,
_RUNS = 512  # and runs: what they give stays in the processor's cache
_CLOSE = 1e-6  # windows: a gradient this small counts as zero


@dataclass(frozen=True)
class NeighbourBlock:
    """Some positive slices with all their neighbours, sorted by positive, then by subject."""

    placed: IntArray
    """Numbers of the positive slices, each once; (placed,)."""
    first: npt.NDArray[np.int32]
    """Numbers of the positive slices; (pairs,)."""
    second: npt.NDArray[np.int32]
    """Numbers of the negative slices; (pairs,)."""
    weight: FloatArray
    """(pairs,), above 0; 1 summed over each positive slice's neighbours."""
    starts: IntArray
    """Where each run of one positive slice and one subject of negatives starts; (runs,)."""
    row: IntArray
    """Place of each run's positive slice among ``placed``; (runs,)."""
    column: IntArray
    """Each run's subject; (runs,)."""
    n_subjects: int

    @cached_property
    def weights(self) -> Matrix:
        """(placed, subjects): weight of each subject's slices, float32; rows sum to 1."""
        return self.by_subject(self._summed(self.weight))

    def wins(self, ranks: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """(runs,): weight of the slices of each run that a score puts below the positive one.

        ``ranks``: (n,) of the score. Equal ones count one half. The runs of one positive slice sum
        to 1 less its placement value.
        """
        return self._summed(self.weight * (1 + np.sign(ranks[self.first] - ranks[self.second])) / 2)

    def by_subject(self, values: npt.NDArray[np.float32]) -> Matrix:
        """(placed, subjects): ``values`` (runs,) where they belong, 0 elsewhere."""
        return matrix_of(values, self.row, self.column, (len(self.placed), self.n_subjects))

    def _summed(self, values: FloatArray) -> npt.NDArray[np.float32]:
        return np.add.reduceat(values, self.starts).astype(np.float32)


@dataclass(frozen=True)
class Neighbours:
    """For each positive slice, the weighted negatives of similar area and position.

    Where there are very many, some stand for all (``similar``).
    """

    blocks: tuple[NeighbourBlock, ...]
    subject: IntArray
    """(n,) codes of the slices' subjects."""

    @cached_property
    def placed(self) -> IntArray:
        """Numbers of the positive slices that have a neighbour at all; (placed,), rising."""
        return np.concatenate([np.empty(0, np.int64), *(block.placed for block in self.blocks)])

    @cached_property
    def effective(self) -> tuple[FloatArray, FloatArray]:
        """For each placed slice, the effective number of its negatives, and of their subjects.

        (Σ w)² / Σ w², as Kish: n equal weights count n.
        """
        squares = np.zeros(len(self.subject))
        by_subject: list[FloatArray] = [np.empty(0)]
        for block in self.blocks:
            squares += np.bincount(block.first, block.weight**2, minlength=len(squares))
            runs = np.add.reduceat(block.weight, block.starts).astype(np.float32)
            squared = np.bincount(block.row, runs.astype(np.float64) ** 2)
            by_subject.append(np.asarray(squared, dtype=np.float64))
        return 1.0 / squares[self.placed], 1.0 / np.concatenate(by_subject)

    @property
    def typical(self) -> tuple[float, float]:
        """Medians of ``effective`` over placed slices; 0 when none is placed."""
        slices, subjects = (float(np.median(n)) if len(n) else 0.0 for n in self.effective)
        return slices, subjects

    @cached_property
    def members(self) -> tuple[int, int, int]:
        """How many positive slices, negative slices and subjects take part."""
        negatives = np.zeros(len(self.subject), dtype=bool)
        for block in self.blocks:
            negatives[block.second] = True
        people = np.union1d(self.subject[negatives], self.subject[self.placed])
        return len(self.placed), int(negatives.sum()), len(people)

    def placement(self, score: FloatArray) -> FloatArray:
        """Placement values of the placed slices by ``score`` (n,); (placed,)."""
        ranks = ranks_of(score)
        wins = [np.bincount(block.row, block.wins(ranks)) for block in self.blocks]
        return 1 - np.concatenate([np.empty(0), *wins])


def ranks_of(score: FloatArray) -> npt.NDArray[np.int32]:
    """Ranks (n,) from 0; equal scores have equal ones."""
    return np.unique(score, return_inverse=True)[1].astype(np.int32)


def adjusted_aurocs(
    neighbours: Neighbours, scores: Sequence[FloatArray], draws: FloatArray
) -> list[Resampled]:
    """The adjusted AUROC of each of ``scores``, (n,) each; NaN without a placed slice.

    ``draws``: (resamples, subjects). Both the positive slices and the negatives among which they
    are placed are resampled; each negative keeps its weight. How often a positive slice and a
    subject of its neighbours are drawn together is the same for all scores: one product with their
    wins serves them all.
    """
    parts = [slice(start, start + _COLUMNS) for start in range(0, len(draws), _COLUMNS)]
    drawn = [np.ascontiguousarray(draws[part].T, dtype=np.float32) for part in parts]
    ranks = [ranks_of(score) for score in scores]
    count, value = np.zeros(len(draws)), np.zeros(len(scores))
    total = np.zeros((len(scores), len(draws)))
    for block in neighbours.blocks if scores else ():
        wins = np.stack([block.wins(rank) for rank in ranks])
        value += wins.sum(axis=1, dtype=np.float64)
        for part, counts in zip(parts, drawn, strict=True):
            times = counts[neighbours.subject[block.placed]]
            among = block.weights @ counts
            times[among == 0] = 0
            count[part] += times.sum(axis=0, dtype=np.float64)
            share = np.divide(times, among, out=times, where=among > 0)
            for start in range(0, len(block.row), _RUNS):
                runs = slice(start, start + _RUNS)
                together = share[block.row[runs]]
                together *= counts[block.column[runs]]
                total[:, part] += wins[:, runs] @ together
    values = ratio(value, len(neighbours.placed))
    return [Resampled(float(v), ratio(t, count)) for v, t in zip(values, total, strict=True)]


def find_neighbours(
    positive: BoolArray,
    subject: IntArray,
    n_subjects: int,
    log_area: FloatArray,
    position: FloatArray,
    window: Matching,
) -> Neighbours:
    """Weigh the negatives near each positive slice; arrays (n,).

    ``window``: how far log area and position may differ at most; the kernel falls to 0 there.
    Slices without brain (log area −inf) have no neighbours.
    """
    usable = np.isfinite(log_area) & np.isfinite(position)
    numbers = np.flatnonzero(positive & usable), np.flatnonzero(~positive & usable)
    blocks = []
    for found in similar_pairs(*numbers, log_area, position, window):
        if not len(found.first):
            continue
        first, second = found.first, found.second
        placed, row = np.unique(first, return_inverse=True)
        apart = np.stack(
            [
                (log_area[second] - log_area[first]) / window.log_area,
                (position[second] - position[first]) / window.position,
            ]
        )
        weight = tilted_weights(apart, row.astype(np.int64))
        blocks.append(_block(placed, row, second, weight, subject, n_subjects))
    return Neighbours(tuple(blocks), subject)


def tilted_weights(apart: FloatArray, row: IntArray) -> FloatArray:
    """Weights (pairs,) of neighbours, 1 in sum over each row.

    ``apart``: (2, pairs), differences in covariates in windows, within (−1, 1); ``row``: (pairs,)
    codes from 0 of the slices whose neighbours they are, each at least once.
    """
    kernel = (1 - apart**2).prod(axis=0)
    tilt = np.zeros((2, int(row.max()) + 1))
    for _ in range(_STEPS):
        weight, total = _tilted(kernel, apart, row, tilt)
        mean = np.stack([np.bincount(row, weight * d) for d in apart]) / total
        gradient = mean + RIDGE * tilt
        if np.abs(gradient).max() < _CLOSE:
            break
        a, b = ((np.bincount(row, weight * d * d) / total) for d in apart)
        c = np.bincount(row, weight * apart[0] * apart[1]) / total - mean[0] * mean[1]
        a, b = a - mean[0] ** 2 + RIDGE, b - mean[1] ** 2 + RIDGE
        step = np.stack([b * gradient[0] - c * gradient[1], a * gradient[1] - c * gradient[0]])
        tilt -= (step / (a * b - c * c)).clip(-2, 2)
    weight, total = _tilted(kernel, apart, row, tilt)
    return np.asarray(weight / total[row], dtype=np.float64)


def _tilted(
    kernel: FloatArray, apart: FloatArray, row: IntArray, tilt: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Weights of the pairs, and their sum over each row."""
    weight: FloatArray = kernel * np.exp((tilt[:, row] * apart).sum(axis=0))
    return weight, np.asarray(np.bincount(row, weight), dtype=np.float64)


def _block(
    placed: IntArray,
    row: IntArray,
    second: IntArray,
    weight: FloatArray,
    subject: IntArray,
    n_subjects: int,
) -> NeighbourBlock:
    column = subject[second]
    order = np.lexsort((column, row))
    row, column = row[order], column[order]
    starts = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(column, prepend=-1))
    return NeighbourBlock(
        placed,
        placed[row].astype(np.int32),
        second[order].astype(np.int32),
        weight[order],
        starts,
        row[starts],
        column[starts],
        n_subjects,
    )


def metric_of(kind: str) -> str:
    """What metrics.tsv calls the AUROC of that kind."""
    return "auroc" if kind == "raw" else f"auroc_{kind}"


class ThreeAurocs:
    """The AUROCs of all scores of one sample."""

    def __init__(
        self, sample: Sample, positive: BoolArray, draws: FloatArray, config: EvaluationConfig
    ) -> None:
        """``positive``: (n,); ``draws``: (resamples, subjects)."""
        people = (positive, sample.subject)
        places = (*people, sample.n_subjects, sample.log_area, sample.position)
        self._sample, self._people, self._draws = sample, people, draws
        similar = Matching(config.match_log_area, config.match_position)
        self.pairs: MatchedPairs = match_pairs(*places, similar)
        """The matched pairs."""
        self.neighbours: Neighbours = find_neighbours(*places, similar)
        """The negatives that the adjusted AUROC places positive slices among."""
        found = adjusted_aurocs(self.neighbours, list(sample.scores.values()), draws)
        self._adjusted = dict(zip(sample.scores, found, strict=True))
        self._pairs_drawn = between(self.pairs.pairs, draws)

    def of(self, name: str) -> Iterator[tuple[str, Resampled]]:
        """Each of ``KINDS`` with that AUROC of the score ``name``."""
        yield "raw", raw_auroc(self._sample.scores[name], *self._people, self._draws)
        yield from self.among_similar(name)

    def among_similar(self, name: str) -> Iterator[tuple[str, Resampled]]:
        """Those of slices of similar area and position alone."""
        wins = self.pairs.wins(self._sample.scores[name])
        drawn = ratio(between(wins.wins, self._draws), self._pairs_drawn)
        yield "matched", Resampled(wins.auroc(), drawn)
        yield "adjusted", self._adjusted[name]
