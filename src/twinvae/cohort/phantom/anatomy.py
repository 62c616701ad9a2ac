"""One subject's own anatomy: where each of its voxels lies in the MNI maps, and what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twinvae.cohort.phantom.fields import FloatArray, Grid, smooth_field
from twinvae.cohort.phantom.maps import COARSE, ORIGIN_MM, Maps

_FIELD_OF_VIEW_MM = ((-96.0, 96.0), (-124.0, 92.0), (-72.0, 92.0))
# Standard deviation in mm of each displacement component, by distance between control points.
_FOLDING_MM = ((60.0, 2.2), (30.0, 1.1), (14.0, 0.6))


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
    """Draw a subject of the healthy source (22–36 years) or of the older mixed source (30–80)."""
    age = round(np.clip(rng.normal(57, 12), 30, 80)) if older else int(rng.integers(22, 37))
    overall = rng.normal(0.945, 0.025)
    sx, sy, sz = overall * np.exp(rng.normal(0, 0.02, size=3))
    decades = (age - 30) / 10
    return Body(
        age=int(age),
        size=(float(sx), float(sy), float(sz)),
        turn_deg=_triple(rng.normal(0, [3.5, 2.0, 2.5])),
        shift_mm=_triple(rng.normal(0, [1.5, 2.5, 2.5])),
        ventricle_mm=float(rng.normal(-0.5 + 0.75 * decades, 0.9)),
        sulci=float(rng.normal(0.1 + 0.16 * decades, 0.18)),
    )


def sample_tissue(
    rng: np.random.Generator, body: Body, grid: Grid, maps: Maps, push: Push | None = None
) -> Tissue:
    """Deform the maps into one person's brain; ``push`` lets a mass displace it."""
    place = _place_in_template(rng, body, grid)
    soft = _look_up(maps.tissue[3], place.reshape(3, -1)).reshape(grid.shape)
    inside = soft > 5
    place = place[:, inside]
    pull = np.stack([_look_up(axis, place, COARSE) for axis in maps.ventricle])
    place += np.float32(body.ventricle_mm) * pull
    if push is not None:
        push(place, _look_up(maps.depth_mm, place, COARSE))
    shares = np.stack([_look_up(m, place) for m in maps.tissue[:3]])
    width = body.sulci + smooth_field(rng, grid, 9.0, 0.55)[0][inside]
    return Tissue(
        grid=grid,
        inside=inside,
        brain=soft[inside] > 128,
        shares=_sharpen(shares / 255, width),
        detail=(_look_up(maps.detail, place) - 128) / 128,
        place_mm=place,
    )


def _place_in_template(rng: np.random.Generator, body: Body, grid: Grid) -> FloatArray:
    """(3, *grid.shape): place in mm in MNI space of every voxel of the subject's grid."""
    x, y, z = grid.axes_mm()
    inverse = np.linalg.inv(_rotation(body.turn_deg) * np.asarray(body.size)[None, :])
    m = inverse.astype(np.float32)
    x, y, z = (a - np.float32(s) for a, s in zip((x, y, z), body.shift_mm, strict=True))
    place = np.stack([m[r, 0] * x + m[r, 1] * y + m[r, 2] * z for r in range(3)])
    for control_mm, sd_mm in _FOLDING_MM:
        place += smooth_field(rng, grid, control_mm, sd_mm, components=3)
    return place


def _look_up(volume: npt.NDArray[Any], place_mm: FloatArray, spacing_mm: int = 1) -> FloatArray:
    """(n,): linear interpolation of a map in MNI space at ``place_mm`` (3, n)."""
    at = (place_mm - ORIGIN_MM[:, None]) / np.float32(spacing_mm)
    values: FloatArray = ndimage.map_coordinates(volume, at, order=1, output=np.float32)
    return values


def _sharpen(shares: FloatArray, csf_width: FloatArray) -> FloatArray:
    """Turn shares of people (3, n) into shares of tissue in one of them.

    Squaring undoes the blur of the average; ``csf_width`` (n,) is the log factor that widens or
    closes sulci from place to place, as they do between people.
    """
    powered = shares**2 + np.float32(1e-6)
    powered[2] *= np.exp(2 * csf_width)
    result: FloatArray = powered / powered.sum(axis=0)
    return result


def _rotation(turn_deg: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    a, b, c = np.deg2rad(turn_deg)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix: npt.NDArray[np.float64] = rz @ ry @ rx
    return matrix


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
