"""Where a lesion spreads in one anatomy.

The front is a level of concentration of diffusion out of the core, fast in white matter, slow in
grey matter, barred by CSF; after the diffusion half of the glioma model of Swanson et al. (2000).
It therefore follows the white matter into gyri, stays out of ventricles and sulci, and reaches the
other hemisphere only through the callosum. It is solved on a small grid whose step is a fraction
of the lesion's diameter, so small and large lesions cost the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twinvae.cohort.phantom.anatomy import Tissue
from twinvae.cohort.phantom.fields import FloatArray, Grid, smooth_field

_STEPS_ACROSS = 15  # steps of the small grid in one diameter
_HALF_STEPS = 20  # its half side
_ROUNDS = 70
_SPEED = {"grey": 0.05, "white": 1.0}


@dataclass(frozen=True)
class Spread:
    """A lesion in an anatomy, over the n voxels of ``Tissue``."""

    lesion: FloatArray
    """(n,): 1 in the lesion, 0 outside, a soft edge between; 0.5 is its border."""
    radius: FloatArray
    """(n,): perturbed distance from the centre; 1 at the border of the core."""
    mask: npt.NDArray[np.bool_]
    """(n,): the exact lesion: oedema and core, inside the brain."""


def grow(
    rng: np.random.Generator,
    tissue: Tissue,
    centre_mm: FloatArray,
    diameter_mm: float,
    core_mm: float,
) -> Spread:
    """Grow a lesion of a given volume (that of a sphere of ``diameter_mm``) around a core.

    ``centre_mm`` (3,) lies in MNI space; diameter and core radius are in mm.
    """
    away = ((tissue.place_mm - centre_mm[:, None]) ** 2).sum(axis=0)
    nearest = int(np.argmin(away + 1e6 * (~tissue.brain)))
    points = tissue.points_mm()
    centre = points[:, nearest]
    grid = _small_grid(centre, diameter_mm)
    grey, white, csf, brain = _tissue_on(grid, tissue)
    radius = _core_radius(rng, grid, centre, core_mm)
    speed = _SPEED["grey"] * grey + _SPEED["white"] * white
    speed *= np.exp(smooth_field(rng, grid, diameter_mm / 4, 0.8)[0])
    open_ = (csf < 0.5) & (brain > 0.5)
    core = (radius < 1) & open_
    core[_HALF_STEPS, _HALF_STEPS, _HALF_STEPS] = True
    level = _diffuse(core, np.where(open_, speed, 0))
    level = _border_at_half(level, np.pi / 6 * (diameter_mm / grid.spacing_mm) ** 3)

    lesion = _look_up(level, grid, points, outside=0.0)
    mask = (lesion >= 0.5) & tissue.brain
    mask[nearest] = True
    return Spread(lesion, _look_up(radius, grid, points, outside=9.0), mask)


def _small_grid(centre_mm: FloatArray, diameter_mm: float) -> Grid:
    step = diameter_mm / _STEPS_ACROSS
    x, y, z = (float(c) - _HALF_STEPS * step for c in centre_mm)
    side = 2 * _HALF_STEPS + 1
    return Grid((side, side, side), (x, y, z), step)


def _tissue_on(grid: Grid, tissue: Tissue) -> list[FloatArray]:
    """Grey matter, white matter, CSF and brain on the small grid."""
    origin = np.asarray(tissue.grid.origin_mm)
    start = (np.asarray(grid.origin_mm) - origin) / tissue.grid.spacing_mm
    step = grid.spacing_mm / tissue.grid.spacing_mm
    found = []
    for values in (*tissue.shares, tissue.brain.astype(np.float32)):
        volume = np.zeros(tissue.grid.shape, dtype=np.float32)
        volume[tissue.inside] = values
        found.append(
            ndimage.affine_transform(
                volume, [step] * 3, offset=start, output_shape=grid.shape, order=1
            )
        )
    return found


def _core_radius(
    rng: np.random.Generator, grid: Grid, centre_mm: FloatArray, core_mm: float
) -> FloatArray:
    """Distance from the centre over the core's radius, squeezed and perturbed into a lobed blob."""
    squeeze = np.exp(rng.normal(0, 0.15, size=3)).astype(np.float32)
    x, y, z = (
        (axis - c) * s for axis, c, s in zip(grid.axes_mm(), centre_mm, squeeze, strict=True)
    )
    distance = np.sqrt(x**2 + y**2 + z**2) / np.float32(core_mm)
    lobes = smooth_field(rng, grid, max(core_mm, 2 * grid.spacing_mm), 0.28)[0]
    result: FloatArray = distance * np.exp(lobes)
    return result


def _diffuse(core: npt.NDArray[np.bool_], speed: FloatArray) -> FloatArray:
    """Concentration after explicit diffusion out of ``core``, which is held at 1."""
    level = core.astype(np.float32)
    speed = np.clip(speed / max(float(speed.max()), 1e-6), 0, 1)
    pairs = [_neighbours(axis) for axis in range(3)]
    faces = [np.float32(0.16) * np.minimum(speed[a], speed[b]) for a, b in pairs]
    for _ in range(_ROUNDS):
        flows = [f * (level[b] - level[a]) for f, (a, b) in zip(faces, pairs, strict=True)]
        for flow, (a, b) in zip(flows, pairs, strict=True):
            level[a] += flow
            level[b] -= flow
        level[core] = 1
    return level


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    lower, upper = [slice(None)] * 3, [slice(None)] * 3
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return tuple(lower), tuple(upper)


def _border_at_half(level: FloatArray, voxels: float) -> FloatArray:
    """Rescale so that ``voxels`` grid points lie above 0.5, on a scale linear near the border.

    Concentration decays about exponentially, so its logarithm is nearly linear in distance.
    """
    count = int(np.clip(round(voxels), 1, (level > 1e-4).sum()))
    border = float(np.partition(level.ravel(), -count)[-count])
    log = np.log(np.maximum(level, 1e-6) / min(border, 0.98))
    result: FloatArray = np.clip(0.5 + log / 1.2, 0, 1).astype(np.float32)
    return result


def _look_up(values: FloatArray, grid: Grid, points_mm: FloatArray, outside: float) -> FloatArray:
    """(n,): the small grid's ``values`` at ``points_mm`` (3, n)."""
    at = (points_mm - np.asarray(grid.origin_mm, dtype=np.float32)[:, None]) / np.float32(
        grid.spacing_mm
    )
    near = (np.abs(at - _HALF_STEPS) < _HALF_STEPS).all(axis=0)
    result = np.full(points_mm.shape[1], outside, dtype=np.float32)
    result[near] = ndimage.map_coordinates(
        values, at[:, near], order=1, mode="nearest", output=np.float32
    )
    return result
