"""One subject's own brain: where each voxel lies in the maps, what is there, how it has aged.

Deformations are smooth random fields, tensor products of cubic B-splines: with a control point
every 40 mm one costs three small matrix products, whatever the voxel size, and is twice
differentiable, so that there are no creases.

White matter hyperintensities, which most healthy brains have from middle age on, are caps and a rim
around the ventricles, and dots and patches in deep white matter, after the grades of Fazekas et al.
(1987). They are a healthy variation: no lesion mask holds them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from twinvae.cohort.phantom.mni152 import COARSE, FloatArray, Maps, look_up

_FIELD_OF_VIEW_MM = ((-96.0, 96.0), (-124.0, 92.0), (-72.0, 92.0))
# Standard deviation in mm of each displacement component, by distance between control points.
_FOLDING_MM = ((60.0, 2.4), (30.0, 1.1), (14.0, 0.7))

Push = Callable[[FloatArray, FloatArray], None]
"""Changes places (3, n) in MNI space in place, given their depth (n,) in the brain, both in mm."""


@dataclass(frozen=True)
class Body:
    """What a subject's brain is like, before any disease."""

    age: int
    """Years."""
    size: tuple[float, float, float]
    """Extent along x, y, z relative to MNI152, which is larger than most brains."""
    turn_deg: tuple[float, float, float]
    """Pose: rotation about x, y, z."""
    shift_mm: tuple[float, float, float]
    """Pose: translation."""
    ventricle_mm: float
    """How far the walls of the ventricles stand outside those of MNI152."""
    sulci: float
    """Log factor on the share of CSF: the width of sulci."""


@dataclass(frozen=True)
class Tissue:
    """A subject's brain as flat arrays over the n voxels of ``inside``."""

    grid: Grid
    inside: npt.NDArray[np.bool_]
    """(X, Y, Z): the brain and a rim around it."""
    brain: npt.NDArray[np.bool_]
    """(n,): inside the brain mask."""
    shares: FloatArray
    """(3, n): grey matter, white matter, CSF; they sum to 1."""
    rim: FloatArray
    """(n,): 0 in the brain, rising to 1 across its surface, 0.5 at the border of the mask."""
    detail: FloatArray
    """(n,): deviation of the T1 average within a tissue, about −0.5 to 0.5."""
    place_mm: FloatArray
    """(3, n): where the voxel lies in MNI space."""

    def points_mm(self) -> FloatArray:
        """(3, n): centres of the voxels in the subject's own space."""
        index = np.stack(np.nonzero(self.inside)).astype(np.float32)
        origin = np.asarray(self.grid.origin_mm, dtype=np.float32)[:, None]
        return index * np.float32(self.grid.spacing_mm) + origin


def subject_grid(spacing_mm: float) -> Grid:
    """The grid all volumes of a cohort share."""
    low, high = zip(*_FIELD_OF_VIEW_MM, strict=True)
    nx, ny, nz = (round((b - a) / spacing_mm) for a, b in zip(low, high, strict=True))
    return Grid((nx, ny, nz), (low[0], low[1], low[2]), spacing_mm)


def draw_body(rng: np.random.Generator, *, older: bool) -> Body:
    """Draw a healthy volunteer (20–70 years) or, ``older``, a patient (30–80 years)."""
    age = round(np.clip(rng.normal(57, 12), 30, 80)) if older else int(rng.integers(20, 71))
    overall = rng.normal(0, 0.022)
    sx, sy, sz = np.array([0.92, 0.945, 0.905]) * np.exp(overall + rng.normal(0, 0.02, size=3))
    decades = (age - 30) / 10
    return Body(
        age=int(age),
        size=(float(sx), float(sy), float(sz)),
        turn_deg=_triple(rng.normal(0, [2.5, 1.3, 1.6])),
        shift_mm=_triple(rng.normal(0, [1.0, 2.0, 2.0])),
        ventricle_mm=float(np.clip(rng.normal(-0.6 + 1.05 * decades, 0.9 + 0.2 * decades), -4, 8)),
        sulci=float(rng.normal(-0.05 + 0.03 * decades, 0.15)),
    )


def sample_tissue(
    rng: np.random.Generator, body: Body, grid: Grid, maps: Maps, push: Push | None = None
) -> Tissue:
    """Deform the maps into one person's brain; ``push`` lets a mass displace it."""
    place = _place_in_template(rng, body, grid)
    soft = look_up([maps.brain], place.reshape(3, -1), origin_mm=maps.origin_mm)[0].reshape(
        grid.shape
    )
    inside = soft > 5
    place = place[:, inside]
    *away, wall_mm, depth_mm = look_up(maps.warp, place, COARSE, maps.origin_mm)
    place -= np.stack(away) * _ventricle_shift(body.ventricle_mm, wall_mm, depth_mm)
    if push is not None:
        push(place, depth_mm)
    *shares, detail = look_up(maps.tissue, place, origin_mm=maps.origin_mm)
    width = body.sulci + smooth_field(rng, grid, 9.0, 0.55)[0][inside]
    return Tissue(
        grid=grid,
        inside=inside,
        brain=soft[inside] > 128,
        rim=1 - soft[inside] / np.float32(255),
        shares=_sharpen(shares, width),
        detail=(detail - np.float32(128)) / np.float32(128),
        place_mm=place,
    )


def _place_in_template(rng: np.random.Generator, body: Body, grid: Grid) -> FloatArray:
    """(3, *grid.shape): place in mm in MNI space of every voxel of the subject's grid."""
    x, y, z = grid.axes_mm()
    inverse = np.linalg.inv(rotation(body.turn_deg) * np.asarray(body.size)[None, :])
    m = inverse.astype(np.float32)
    x, y, z = (a - np.float32(s) for a, s in zip((x, y, z), body.shift_mm, strict=True))
    place = np.stack([m[r, 0] * x + m[r, 1] * y + m[r, 2] * z for r in range(3)])
    for control_mm, sd_mm in _FOLDING_MM:
        place += smooth_field(rng, grid, control_mm, sd_mm, components=3)
    return place


def _ventricle_shift(growth_mm: float, wall_mm: FloatArray, depth_mm: FloatArray) -> FloatArray:
    """(n,): how far towards the ventricles to look, so that their walls move out by ``growth_mm``.

    It fades with distance from the wall and towards the skull, and never looks further in than
    just behind the wall: beyond the middle of a horn lies the other wall.
    """
    shift = growth_mm * np.exp(-np.abs(wall_mm) / 14) * np.clip(depth_mm / 14, 0, 1)
    limited: FloatArray = np.minimum(shift, np.maximum(wall_mm + 1.5, 0)).astype(np.float32)
    return limited


def _sharpen(maps: list[FloatArray], csf_width: FloatArray) -> FloatArray:
    """Turn shares of people, 3 maps (n,) in 255ths, into shares (3, n) of tissue in one of them.

    The power undoes some of the blur of the average; ``csf_width`` (n,) is the log factor that
    widens or closes sulci from place to place, as they differ between people.
    """
    powered = np.stack([np.maximum(m / np.float32(255), 1e-3) ** np.float32(1.8) for m in maps])
    powered[2] *= np.exp(2 * csf_width)
    result: FloatArray = powered / powered.sum(axis=0)
    return result


def rotation(turn_deg: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """3×3 matrix that turns about x, then y, then z."""
    a, b, c = np.deg2rad(turn_deg)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix: npt.NDArray[np.float64] = rz @ ry @ rx
    return matrix


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


_WATER = 0.16  # of the way from grey matter to CSF: signal of a full hyperintensity


def draw_load(rng: np.random.Generator, age: int) -> float:
    """How much of it there is, from none (0) to confluent (1)."""
    return float(np.clip(rng.normal((age - 45) / 80, 0.2), 0.0, 1.0))


def hyperintensities(
    rng: np.random.Generator, tissue: Tissue, maps: Maps, load: float
) -> FloatArray:
    """(n,): share of each voxel that is hyperintense white matter, from 0 to 1."""
    *_, wall_mm, depth_mm = look_up(maps.warp, tissue.place_mm, COARSE, maps.origin_mm)
    grid, inside = tissue.grid, tissue.inside
    uneven = smooth_field(rng, grid, 14.0, 1.0)[0][inside]
    spots = smooth_field(rng, grid, 4.0, 1.0)[0][inside]
    spots += 0.6 * smooth_field(rng, grid, 25.0, 1.0)[0][inside]
    width_mm = (0.5 + 4 * load) * np.exp(np.float32(0.5) * uneven)
    rim = np.clip((width_mm - wall_mm) / 2, 0, 1) * min(0.35 + load, 1.0)
    deep = np.clip((spots - (4.2 - 1.6 * load)) / 0.5, 0, 1) * (depth_mm > 6) * (load > 0.15)
    share: FloatArray = np.maximum(rim, deep) * tissue.shares[1]
    return share.astype(np.float32)


def water_of_hyperintensity(rng: np.random.Generator) -> float:
    """Where between grey matter (0) and CSF (1) one subject's hyperintensities lie."""
    return float(np.clip(rng.normal(_WATER, 0.03), 0.08, 0.25))


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
