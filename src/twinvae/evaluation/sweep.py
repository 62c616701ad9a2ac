"""One pass over the slices, from the highest score down, in all resamples of subjects at once.

A resample is how often each subject is drawn, so in it a slice counts as often as its subject.
Going down the scores, the tumour slices and the tumour-free ones met so far make the ROC and the
precision–recall curve; every area under them is a sum over tumour slices of what was met before.
Time grows with slices · resamples and memory with subjects · resamples, however many subjects
there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twinvae.evaluation.resampling import AnyFloat, BoolArray, FloatArray, IntArray, ratio

MAX_FPR = 0.1
"""False-positive rate up to which the partial area looks."""
SPECIFICITIES = (95, 99)
"""In per cent."""

_ELEMENTS = 128_000  # slices · resamples looked at together: they stay in the processor's cache
_COLUMNS = 2000  # resamples at most
_FEW = 64  # resamples; with fewer, NumPy's own running sum is faster
_EXACT = 2**24  # float32 holds whole numbers up to this
_ROUNDING = 1e-3  # of a slice, when a count is held against a share of all slices


@dataclass(frozen=True)
class Swept:
    """What a pass found, all arrays (resamples,); areas are in slices · slices."""

    positives: FloatArray
    """Tumour slices."""
    negatives: FloatArray
    """Tumour-free slices."""
    wins: FloatArray
    """Pairs of the one and the other in which the tumour slice scores higher; ties one half.
    Exact."""
    precision: FloatArray
    """Precision at each tumour slice, summed."""
    area: FloatArray
    """Under the ROC curve up to ``MAX_FPR``."""
    found: tuple[FloatArray, ...]
    """For each of ``SPECIFICITIES``, the most tumour slices called at that specificity."""

    @property
    def auroc(self) -> FloatArray:
        """(resamples,); NaN where a class is missing."""
        return ratio(self.wins, self.positives * self.negatives)


def swept(
    score: FloatArray,
    positive: BoolArray,
    subject: IntArray,
    draws: AnyFloat,
    *,
    curves: bool = True,
) -> Swept:
    """Sweep ``score``, ``positive`` and ``subject`` (codes), all (n,).

    ``draws``: (resamples, subjects), whole numbers; one row of ones gives the sample itself.
    Computed in the precision of ``draws``: float32 gives sums over curves to about 1e-6, and
    counts exactly. Without ``curves`` only ``wins`` and the sizes are right, and it takes half.
    """
    rows = _Rows.sorted(score, positive, subject, draws.shape[1])
    starts = range(0, max(1, len(draws)), _COLUMNS)  # one part at least, if an empty one
    parts = [_Pass(rows, draws[start : start + _COLUMNS], curves).done() for start in starts]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("positives", "negatives", "wins", "precision", "area")
    }
    found = zip(*(part.found for part in parts), strict=True)
    return Swept(**arrays, found=tuple(np.concatenate(each) for each in found))


@dataclass(frozen=True)
class _Class:
    """The slices of one class, highest score first; those of equal score and subject are one."""

    subject: IntArray
    """(m,)."""
    group: IntArray
    """(m,), rising: equal for equal scores."""
    times: IntArray | None
    """(m,): how many slices; None where each is one."""

    def weights(self, drawn: AnyFloat, part: slice) -> AnyFloat:
        """(slices, resamples): how often each counts; ``drawn``: (subjects, resamples)."""
        out: AnyFloat = drawn.take(self.subject[part], axis=0)
        if self.times is not None:
            out *= self.times[part, None].astype(out.dtype)
        return out

    def total(self, draws: AnyFloat) -> FloatArray:
        """How many slices each resample has."""
        sizes = np.bincount(self.subject, self.times, minlength=draws.shape[1])
        return np.asarray(draws @ sizes, dtype=np.float64)


@dataclass(frozen=True)
class _Rows:
    """The slices sorted by falling score."""

    positives: _Class
    negatives: _Class

    @classmethod
    def sorted(
        cls, score: FloatArray, positive: BoolArray, subject: IntArray, n_subjects: int
    ) -> _Rows:
        order = np.argsort(-score, kind="stable")
        falling = score[order]
        group = np.cumsum(np.diff(falling, prepend=falling[:1]) != 0, dtype=np.int64)
        subject, positive = subject[order], positive[order]
        if len(group) == 0 or group[-1] == len(group) - 1:
            return cls(*(_Class(subject[c], group[c], None) for c in (positive, ~positive)))

        def merged(chosen: BoolArray) -> _Class:
            keys = group[chosen] * n_subjects + subject[chosen]
            key, times = np.unique(keys, return_counts=True)
            return _Class(key % n_subjects, key // n_subjects, times)

        return cls(merged(positive), merged(~positive))

    def blocks(self, size: int) -> Iterator[tuple[slice, slice]]:
        """Positives and negatives of ``size`` slices or more, in order; no score is split.

        The last block holds the last positive: what lies below has nothing to add.
        """
        high, low = self.positives.group, self.negatives.group
        ends = np.union1d(high, low)
        if not len(high):
            return
        met = np.searchsorted(high, ends, side="right"), np.searchsorted(low, ends, side="right")
        steps = np.searchsorted(met[0] + met[1], np.arange(size, len(high) + len(low) + size, size))
        last = int(np.searchsorted(ends, high[-1]))
        places = np.unique(np.append(steps[steps < last], last))
        bounds = [np.append(0, each[places]).tolist() for each in met]
        for (p, next_p), (n, next_n) in zip(*map(pairwise, bounds), strict=True):
            yield slice(p, next_p), slice(n, next_n)


class _Pass:
    """The sums of some resamples, block by block."""

    def __init__(self, rows: _Rows, draws: AnyFloat, curves: bool) -> None:
        self._rows, self._curves = rows, curves
        size = max(1, _ELEMENTS // max(1, len(draws)))
        self._blocks = list(rows.blocks(size)) if len(draws) else []
        self._positives, self._negatives = rows.positives.total(draws), rows.negatives.total(draws)
        most = (self._positives + self._negatives).max(initial=0)
        kind = draws.dtype if most < _EXACT else np.float64
        self._drawn = np.ascontiguousarray(draws.T, dtype=kind)
        self._limit = MAX_FPR * self._negatives
        self._allowed = [
            self._negatives * (1 - percent / 100) + _ROUNDING for percent in SPECIFICITIES
        ]
        # Met so far: positives, negatives; and the sums.
        self._above, self._called, self._lost, self._precision, self._area, *self._found = (
            np.zeros(len(draws)) for _ in range(5 + len(SPECIFICITIES))
        )

    def done(self) -> Swept:
        """Go through all blocks."""
        for positives, negatives in self._blocks:
            self._block(positives, negatives)
        return Swept(
            self._positives,
            self._negatives,
            self._positives * self._negatives - self._lost,
            self._precision,
            self._area,
            tuple(self._found),
        )

    def _block(self, positives: slice, negatives: slice) -> None:
        high, low = self._rows.positives, self._rows.negatives
        shape = (negatives.stop - negatives.start + 1, self._drawn.shape[1])
        called = np.zeros(shape, self._drawn.dtype)
        called[1:] = low.weights(self._drawn, negatives)
        _add_up(called)
        if positives.stop > positives.start:
            weight = high.weights(self._drawn, positives)
            group, others = high.group[positives], low.group[negatives]
            first = np.searchsorted(others, group, side="left")
            last = np.searchsorted(others, group, side="right")
            before = called.take(first, axis=0)
            after = before if (first == last).all() else called.take(last, axis=0)
            self._add(weight, group, before, after)
        self._called += called[-1]

    def _add(self, weight: AnyFloat, group: IntArray, before: AnyFloat, after: AnyFloat) -> None:
        """A block's positives.

        ``before``, ``after``: the block's negatives above each, without and with those of equal
        score; (slices, resamples).
        """
        above = weight.copy() if self._curves else weight
        total = _add_up(above)[-1].copy() if self._curves else weight.sum(axis=0)
        both = before + before if after is before else before + after
        exact = weight.dtype if total.max() * both[-1].max() < _EXACT else np.dtype(np.float64)
        local = _summed(weight.astype(exact, copy=False), both.astype(exact, copy=False)) / 2
        self._lost += self._called * total + local
        if self._curves:
            self._add_area(weight, before, after, total, local)
            self._add_found(weight, after, total)
            ends = np.searchsorted(group, group, side="right") - 1
            if (ends != np.arange(len(ends))).any():
                above = above.take(ends, axis=0)
            above += self._above.astype(above.dtype)
            everything = above + after
            everything += self._called.astype(above.dtype)
            np.maximum(everything, 1, out=everything)  # 0 / 0 where none is drawn
            above /= everything
            self._precision += _summed(weight, above)
        self._above += total

    def _add_area(
        self,
        weight: AnyFloat,
        before: AnyFloat,
        after: AnyFloat,
        total: AnyFloat,
        local: FloatArray,
    ) -> None:
        """Each positive raises the curve from the negatives above it up to ``MAX_FPR``."""
        left = self._limit - self._called
        if (after[-1] <= left).all():
            self._area += left * total - local
        elif (left > 0).any():
            left = left.astype(weight.dtype)
            width = (left - before).clip(min=0)
            if after is not before:  # a slope along the negatives of equal score
                step = after - before
                reached = np.minimum(width, step)
                width -= reached
                half = np.divide(reached, step, out=np.zeros_like(step), where=step > 0)
                width += reached * half / 2
            self._area += _summed(weight, width)

    def _add_found(self, weight: AnyFloat, after: AnyFloat, total: AnyFloat) -> None:
        for place, allowed in enumerate(self._allowed):
            left = allowed - self._called
            if (after[-1] <= left).all():
                self._found[place] += total
            elif (left > 0).any():
                below = (after <= left.astype(weight.dtype)).astype(weight.dtype)
                self._found[place] += _summed(weight, below)


def _add_up(values: AnyFloat) -> AnyFloat:
    """Running sums down the columns, in place."""
    if values.shape[1] < _FEW:
        return np.cumsum(values, axis=0, out=values)
    for above, row in pairwise(values):  # NumPy's own goes down one column after the other
        np.add(above, row, out=row)
    return values


def _summed(weight: AnyFloat, values: AnyFloat) -> FloatArray:
    """(resamples,): the products, summed over slices."""
    return np.asarray(np.einsum("sr,sr->r", weight, values), dtype=np.float64)
