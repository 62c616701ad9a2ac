"""Resampling along one axis at a time: exact area averages when shrinking, linear otherwise.

A grid of n cells covers the interval [0, n] in units of its own cells: cell i covers [i, i + 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Taps:
    """A sparse matrix: output cell k is the sum over t of weight[k, t] · input[index[k, t]].

    ``index``: intp (n_out, taps), always valid; ``weight``: float32 (n_out, taps), zero where a
    tap lies outside the input.
    """

    index: NDArray[np.intp]
    weight: NDArray[np.float32]


def resampling_taps(n_in: int, start: float, step: float, n_out: int) -> Taps:
    """How ``n_out`` cells of side ``step`` from ``start`` on are made from ``n_in`` cells.

    ``start`` and ``step`` count input cells. With ``step`` >= 1 an output cell is the average of
    the input over its area, so that sums are conserved; below, the input is interpolated linearly
    between cell centres and held constant towards its edges. Outside the input there is zero.
    """
    edges = start + step * np.arange(n_out + 1)
    if step >= 1 - 1e-9:
        first = np.floor(edges[:-1] + 1e-9).astype(np.intp)
        index = first[:, None] + np.arange(int(np.ceil(step)) + 1)
        overlap = np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index)
        weight = np.clip(overlap, 0, None) / step
        weight[(index < 0) | (index >= n_in)] = 0
    else:
        centre = start + step * (np.arange(n_out) + 0.5)
        low = np.floor(centre - 0.5)
        part = centre - 0.5 - low
        index = low.astype(np.intp)[:, None] + np.arange(2)
        weight = np.stack([1 - part, part], axis=1)
        weight[(centre < -1e-9) | (centre > n_in + 1e-9)] = 0
    weight[weight < 1e-9] = 0  # rounding, not area
    return Taps(np.clip(index, 0, n_in - 1), weight.astype(np.float32))


def apply_taps(array: NDArray[Any], taps: Taps, axis: int) -> NDArray[np.float32]:
    """Resample one axis of a float32 or bool array; the result is float32.

    Every output is the same sum in the same order whatever the machine or number of threads.
    """
    shape = [1] * array.ndim
    shape[axis] = -1
    out: NDArray[np.float32] | None = None
    for index, weight in zip(taps.index.T, taps.weight.T, strict=True):
        if not weight.any():
            continue
        part = np.take(array, index, axis=axis) * weight.reshape(shape)
        out = part if out is None else np.add(out, part, out=out)
    if out is None:
        size = list(array.shape)
        size[axis] = len(taps.index)
        return np.zeros(size, np.float32)
    return out
