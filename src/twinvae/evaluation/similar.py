"""Pairs of a positive and a negative slice of similar brain area and position.

All of them where they are few enough, else a thinned choice: every positive slice keeps so many of
its candidates, evenly spread over those that lie near in position, and each kept pair stands for
as many pairs as it was chosen from. Nothing is drawn at random. The number of pairs then grows with
the slices and not with their square, at an error far below that of drawing the slices themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinvae.evaluation.resampling import AnyFloat, FloatArray, IntArray

_BLOCK = 1_000_000  # candidate pairs looked at together
_ROWS = 4096  # positive slices looked at together
_ALL = 10_000_000  # up to so many candidate pairs, all are looked at
_THINNED = 3_000_000  # beyond, about so many
_LEAST = 100  # and no fewer for each positive slice
_EMPTY = 8  # cells for each that is filled: from here on a product with a sparse matrix is faster
_GOLDEN = 0.6180339887498949  # its multiples spread evenly: where a slice's choice begins

Matrix = Any
"""Of float: a NumPy array, or a SciPy ``csr_array`` where most of it is empty."""


@dataclass(frozen=True)
class Matching:
    """When two slices count as similar, so that neither area nor position tells them apart."""

    log_area: float
    """Their log brain areas differ by less than this, …"""
    position: float
    """… and their relative positions by less than this."""


@dataclass(frozen=True)
class Similar:
    """Some similar pairs."""

    first: IntArray
    """Numbers of the positive slices; (pairs,), those of one together."""
    second: IntArray
    """Numbers of the negative slices; (pairs,)."""
    stands_for: FloatArray
    """How many similar pairs each stands for; (pairs,), 1 unless they were thinned."""


def similar_pairs(
    positives: IntArray,
    negatives: IntArray,
    log_area: FloatArray,
    position: FloatArray,
    matching: Matching,
) -> Iterator[Similar]:
    """Blocks of similar pairs, found among negatives sorted by position.

    ``positives``, ``negatives``: numbers of slices, of finite ``log_area`` and ``position`` (n,).
    """
    negatives = negatives[np.argsort(position[negatives], kind="stable")]
    places = position[negatives]
    # A margin around the window, then the exact rule: rounding must not decide.
    reach = matching.position * (1 + 1e-9) + 1e-12
    low = np.searchsorted(places, position[positives] - reach, side="left")
    near = np.searchsorted(places, position[positives] + reach, side="right") - low
    kept = near
    if near.sum() > _ALL:
        kept = np.minimum(near, max(_LEAST, _THINNED // len(positives)))
    ends = np.cumsum(kept)
    start = 0
    while start < len(positives):
        done = ends[start - 1] if start else 0
        fit = int(np.searchsorted(ends, done + _BLOCK, side="right"))
        stop = min(max(start + 1, fit), start + _ROWS)
        counts = kept[start:stop]
        row = np.repeat(np.arange(start, stop), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        step = near[row] / kept[row]
        offset = np.where(step > 1, row * _GOLDEN % 1.0, 0.0)
        first = positives[row]
        second = negatives[low[row] + ((within + offset) * step).astype(np.int64)]
        close = np.abs(position[first] - position[second]) < matching.position
        close &= np.abs(log_area[first] - log_area[second]) < matching.log_area
        yield Similar(first[close], second[close], step[close])
        start = stop


def matrix_of(values: AnyFloat, row: IntArray, column: IntArray, shape: tuple[int, int]) -> Matrix:
    """``values`` in their cells (no two the same, by row), 0 elsewhere."""
    if shape[0] * shape[1] <= _EMPTY * len(values):
        out = np.zeros(shape, values.dtype)
        out[row, column] = values
        return out
    from scipy.sparse import csr_array  # here, since most tables need none

    ends = np.cumsum(np.bincount(row, minlength=shape[0]))
    return csr_array((values, column, np.append(0, ends)), shape=shape)
