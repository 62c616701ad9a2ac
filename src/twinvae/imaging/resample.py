"""From one grid to another: along one axis at a time, to coarse cells and back, by SimpleITK.

A grid of n cells covers the interval [0, n] in units of its own cells: cell i covers [i, i + 1].
Along an axis, shrinking takes exact area averages, and all else is linear. SimpleITK, which turned
grids and filters need, works here on arrays (X, Y, Z) without the world: one frame, no flips;
places are mm along x, y, z from the outer edge of the grid's first voxel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from twinvae.imaging.metaimage import simpleitk
from twinvae.imaging.volume import Affine, Bools, Floats

Triple = tuple[float, float, float]


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


@dataclass(frozen=True)
class CoarseGrid:
    """Large cells over the brain's bounding box, centred on it: averages over them, and back."""

    shape: tuple[int, int, int]
    """Of the volume."""
    cells: tuple[int, int, int]
    """How many cells along x, y, z."""
    start: Triple
    """Where the first cell begins, counted in voxels from the outer edge of the first."""
    step: Triple
    """Triple of a cell, in voxels; at least 1."""
    spacing_mm: Triple
    """Triple of a voxel."""

    @classmethod
    def around(cls, brain: Bools, spacing_mm: Triple, side_mm: float) -> Self:
        """Cells of ``side_mm``, or of one voxel along axes where voxels are larger."""
        cells, start, step = [], [], []
        for axis, spacing in enumerate(spacing_mm):
            others = tuple(a for a in range(3) if a != axis)
            lines = np.flatnonzero(brain.any(axis=others))
            low, high = int(lines[0]), int(lines[-1]) + 1
            step.append(max(1.0, side_mm / spacing))
            cells.append(int(np.ceil(round((high - low) / step[-1], 6))))
            start.append((low + high - cells[-1] * step[-1]) / 2)
        x, y, z = brain.shape
        return cls((x, y, z), _three(cells), _three(start), _three(step), spacing_mm)

    @property
    def start_mm(self) -> Triple:
        """Where the first cell begins, in mm."""
        return _three([n * side for n, side in zip(self.start, self.spacing_mm, strict=True)])

    @property
    def sides_mm(self) -> Triple:
        """Triple of a cell, in mm."""
        return _three([n * side for n, side in zip(self.step, self.spacing_mm, strict=True)])

    def averages(self, image: Floats, brain: Bools) -> tuple[Floats, Bools]:
        """The mean of the brain's voxels in each cell, and which cells are at least half brain."""
        total, cover = self._shrunk(image * brain), self._shrunk(brain)
        inside: Bools = cover >= 0.5
        return np.where(inside, total / np.maximum(cover, np.float32(0.5)), np.float32(0)), inside

    def spread(self, values: Floats) -> Floats:
        """``values`` of the cells, interpolated linearly between their centres; zero outside."""
        turned = values.T  # x runs fastest in memory: whole slices are handled last
        for axis, count in enumerate(self.shape):
            start, step = self.start[axis], self.step[axis]
            taps = resampling_taps(self.cells[axis], -start / step, 1 / step, count)
            turned = apply_taps(turned, taps, 2 - axis)
        return turned.T

    def _shrunk(self, array: NDArray[Any]) -> Floats:
        turned = array.T  # x runs fastest in memory: whole slices are handled first
        for axis in (2, 1, 0):
            start, step = self.start[axis], self.step[axis]
            taps = resampling_taps(self.shape[axis], start, step, self.cells[axis])
            turned = apply_taps(turned, taps, 2 - axis)
        return np.asarray(turned, np.float32).T


def _three(values: list[Any]) -> tuple[Any, Any, Any]:
    x, y, z = values
    return x, y, z


@contextmanager
def one_thread() -> Iterator[Any]:
    """SimpleITK on one thread: scans run in parallel, and sums come in one order."""
    sitk = simpleitk()
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def to_itk(array: NDArray[Any], sides: Triple, start: Triple = (0.0, 0.0, 0.0)) -> Any:
    """An image of voxels with these sides, in mm, whose first begins at ``start``."""
    image = simpleitk().GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(sides)
    image.SetOrigin([a + side / 2 for a, side in zip(start, sides, strict=True)])
    return image


def from_itk(image: Any) -> Floats:
    """The image's values, float32 (X, Y, Z)."""
    array: Floats = simpleitk().GetArrayFromImage(image).T
    return array.astype(np.float32, copy=False)


def on_other_grid(
    array: NDArray[Any],
    sides: Triple,
    place: Affine,
    to_shape: tuple[int, int, int],
    to_sides: Triple,
) -> Floats:
    """Interpolate ``array`` linearly on another grid; zero outside.

    ``place``, (4, 4), leads from places on the other grid to places on the array's.
    """
    with one_thread() as sitk:
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(place[:3, :3].ravel().tolist())
        transform.SetTranslation(place[:3, 3].tolist())
        resample = sitk.ResampleImageFilter()
        resample.SetTransform(transform)
        resample.SetSize(to_shape)
        resample.SetOutputSpacing(to_sides)
        resample.SetOutputOrigin([side / 2 for side in to_sides])
        return from_itk(resample.Execute(to_itk(array.astype(np.float32), sides)))
