"""Thresholds and ranks of all healthy values but one subject's, without sorting the others anew.

Leaving each of very many subjects out in turn would else cost the square of their number. Values
are sorted once; what a subject's own take away from ranks and sums is found among these few.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from twinvae.decision.cutoffs import Unit, interpolated, tail_limit, weight_limit, weights
from twinvae.decision.thresholds import FloatArray, IntArray, Ranks, from_the_top, worth_keeping


class Pool:
    """Healthy values, sorted, with the weights that they count by."""

    def __init__(self, values: FloatArray, subject: IntArray, unit: Unit) -> None:
        """``values``, ``subject`` (codes): (n,), at least one."""
        self.weight, _ = weights(subject, unit)
        self.at, self.reached = from_the_top(values, self.weight)
        """Distinct values, falling, and the weight of all that are at least as large."""
        self.rising = -self.at
        """``at``, its sign changed so that it can be searched."""
        self.level: IntArray = np.searchsorted(self.rising, -values).astype(np.int64)
        """(n,): place of each value in ``at``."""
        self.size: IntArray = np.bincount(self.level, minlength=len(self.at))
        """How many values each of ``at`` stands for."""
        self.within: IntArray = np.cumsum(self.size)
        """How many values are at least as large as each of ``at``."""
        self.uneven = int((self.weight != 1).sum())
        self._subject = subject

    def leave_each_out(self) -> Iterator[tuple[IntArray, Rest]]:
        """The places of each subject's values, and what the others say; subjects by code."""
        order = np.argsort(self._subject, kind="stable")
        for mine in np.split(order, np.flatnonzero(np.diff(self._subject[order])) + 1):
            yield mine, Rest(self, mine)


class Rest:
    """All values of a pool but one subject's own."""

    def __init__(self, pool: Pool, mine: IntArray) -> None:
        """``mine``: places of its own values."""
        self._pool = pool
        self._own = np.sort(pool.level[mine])
        self._each = float(pool.weight[mine[0]])  # the weight that all of a subject's values have
        self._count = len(pool.level) - len(mine)
        self._total = float(pool.reached[-1]) - self._each * len(mine)
        self._plain = pool.uneven == (0 if self._each == 1 else len(mine))
        level, counts = np.unique(self._own, return_counts=True)
        gone = level[pool.size[level] == counts]  # values that nobody else has
        self._gone = gone
        self._before_gone = gone - np.arange(len(gone))  # how many of the rest are above each

    def percentiles(self, percentiles: Sequence[float]) -> FloatArray:
        """As ``percentile_cutoffs`` of the others."""
        if self._plain:
            pick = self._ordered
            return np.array([interpolated(pick, self._count, p) for p in percentiles])

        def share(place: int) -> float:
            """Of the weight, what does not exceed a value; from the last value up."""
            above = self._reached(len(self._pool.at) - 2 - place)
            return float((self._total - above) / self._total)

        levels = range(len(self._pool.at))
        found = [bisect_left(levels, weight_limit(p), key=share) for p in percentiles]
        values: FloatArray = self._pool.at[len(levels) - 1 - np.array(found)]
        return values

    def conformal(self, percentiles: Sequence[float]) -> FloatArray:
        """As ``conformal_cutoffs`` of the others."""
        out = np.full(len(percentiles), np.inf)
        for number, limit in enumerate(map(tail_limit, percentiles)):
            if 1.0 / (self._total + 1.0) <= limit:  # then the first p-value above it
                place = bisect_right(range(len(self._pool.at)), limit, key=self._p_value)
                out[number] = np.nextafter(self._pool.at[place], np.inf)
        return out

    def ranks(self, keep: FloatArray) -> Ranks:
        """As ``Ranks.of`` the others."""
        at = self._pool.at
        known = np.searchsorted(self._pool.rising, -keep)
        known = known[known < len(at)]
        known = np.setdiff1d(known[np.isin(at[known], keep)], self._gone)
        special = known - np.searchsorted(self._gone, known)
        chosen = worth_keeping(len(at) - len(self._gone), special)
        p_value = self._p_value(self._level(chosen[1:] - 1))
        last = (1.0 + self._total) / (self._total + 1.0)
        return Ranks(at[self._level(chosen)], np.append(p_value, last), 1 / (self._total + 1.0))

    def _level(self, number: Any) -> Any:
        """Place in ``at`` of the others' distinct values, counted from the highest."""
        return number + np.searchsorted(self._before_gone, number, side="right")

    def _reached(self, level: Any) -> Any:
        """Weight of the others that are at least as large as ``at[level]``; 0 for level −1."""
        own = self._each * np.searchsorted(self._own, level, side="right")
        return np.where(level < 0, 0.0, self._pool.reached[level]) - own

    def _p_value(self, level: Any) -> Any:
        return (1.0 + self._reached(level)) / (self._total + 1.0)

    def _ordered(self, number: int) -> float:
        """The others' value of that rank, from the lowest, counted from 0."""
        falling = self._count - 1 - number

        def above(level: int) -> int:
            own = np.searchsorted(self._own, level, side="right")
            return int(self._pool.within[level] - own)

        level = bisect_left(range(len(self._pool.at)), falling + 1, key=above)
        return float(self._pool.at[level])
