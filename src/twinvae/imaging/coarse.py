"""A coarse copy of a volume: averages over large cells, and smooth maps spread back from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from twinvae.imaging.resample import apply_taps, resampling_taps
from twinvae.imaging.volume import Bools, Floats

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class CoarseGrid:
    """Large cells over the brain's bounding box, centred on it."""

    shape: tuple[int, int, int]
    """Of the volume."""
    cells: tuple[int, int, int]
    """How many cells along x, y, z."""
    start: Triple
    """Where the first cell begins, counted in voxels from the outer edge of the first."""
    step: Triple
    """Sides of a cell, in voxels; at least 1."""
    spacing_mm: Triple
    """Sides of a voxel."""

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
        """Sides of a cell, in mm."""
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
