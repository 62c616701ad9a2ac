"""Smooth random fields on a regular grid, by tensor products of cubic B-splines.

A field with a control point every 40 mm costs three small matrix products, whatever the voxel
size, and is twice differentiable, so deformations made of it have no creases.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """An isotropic RAS grid: voxel (i, j, k) lies at ``origin_mm + spacing_mm * (i, j, k)``."""

    shape: tuple[int, int, int]
    origin_mm: tuple[float, float, float]
    spacing_mm: float

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4×4 matrix from voxel indices to mm."""
        matrix = np.diag([self.spacing_mm] * 3 + [1.0])
        matrix[:3, 3] = self.origin_mm
        return matrix

    def axes_mm(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Coordinates along x, y and z in mm, shaped to broadcast to ``shape``."""
        x, y, z = (
            np.float32(start) + np.float32(self.spacing_mm) * np.arange(n, dtype=np.float32)
            for start, n in zip(self.origin_mm, self.shape, strict=True)
        )
        return x[:, None, None], y[None, :, None], z[None, None, :]


@cache
def _basis(points: int, spacing_mm: float, control_mm: float) -> Any:
    """Sparse (points, controls): uniform cubic B-splines at ``points`` equally spaced places."""
    place = np.arange(points) * spacing_mm / control_mm
    controls = int(np.floor(place[-1])) + 4
    distance = np.abs(place[:, None] + 1 - np.arange(controls)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return sparse.csr_array(np.where(distance < 1, near, far).astype(np.float32))


def smooth_field(
    rng: np.random.Generator, grid: Grid, control_mm: float, sd: float, components: int = 1
) -> FloatArray:
    """Random field (components, *shape) of mean 0 and standard deviation near ``sd``.

    Details are about ``control_mm`` wide. The variance of a spline with independent unit
    coefficients is the product of sum(basis²) over the axes, 151/315 each on average. Sparse
    products are used because dense ones may round differently with the number of threads.
    """
    bases = [_basis(n, grid.spacing_mm, control_mm) for n in grid.shape]
    controls = [basis.shape[1] for basis in bases]
    field = rng.standard_normal((components, *controls), dtype=np.float32)
    field = np.moveaxis(field, 0, -1)
    for basis in bases:  # each turn expands the leading axis and moves it to the end
        rest = field.shape[1:]
        expanded = basis @ field.reshape(len(field), -1)
        field = np.moveaxis(expanded.reshape(-1, *rest), 0, -1)
    scale = np.float32(sd / (151 / 315) ** 1.5)
    return np.ascontiguousarray(field * scale, dtype=np.float32)
