"""Glioma-like lesions: what one is planned to be, how it displaces the brain, spreads and shows.

Its front is a level of concentration of diffusion out of the core, fast in white matter, slow in
grey matter, barred by CSF; after the diffusion half of the glioma model of Swanson et al. (2000).
It therefore follows the white matter into gyri, stays out of ventricles and sulci, and reaches the
other hemisphere only through the callosum. It is solved on a small grid whose step is a fraction
of the lesion's diameter, so small and large lesions cost the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twinvae.cohort.phantom.brain import Grid, Tissue, smooth_field
from twinvae.cohort.phantom.mni152 import FloatArray, Maps

Kind = Literal["necrotic", "solid", "diffuse"]
_REACH_MM = 22.0  # distance over which the displacement around a mass falls to 1/e
_ROOM_MM = 12.0  # tissue nearer than this to the skull moves less; the skull does not move


class Water(Protocol):
    """What a scan makes of free water, of which every lesion holds more than healthy tissue."""

    @property
    def fluid_bright(self) -> bool:
        """Whether a lesion is brighter than white matter."""

    def level(self, fraction: FloatArray) -> FloatArray:
        """Signal at ``fraction`` of the way from grey matter (0) to CSF (1)."""


@dataclass(frozen=True)
class Plan:
    """A lesion before it meets an anatomy."""

    kind: Kind
    """`necrotic`: enhancing rim around necrosis, in oedema. `solid`: without necrosis.
    `diffuse`: low-grade, infiltrating, even, hardly displacing."""
    centre_mm: FloatArray
    """(3,): where it begins, in MNI space."""
    diameter_mm: float
    """Of the sphere with the volume of the whole lesion, oedema included."""
    core_mm: float
    """Radius of the core."""
    push_mm: float
    """Displacement at the surface of the core."""
    oedema: float
    """Signal of oedema in white matter, between grey matter (0) and CSF (1)."""
    rim: float
    """Signal of solid tumour, on the same scale."""
    necrosis: float
    """Signal of the middle of the core, on the same scale."""


def draw_plan(rng: np.random.Generator, maps: Maps, spacing_mm: float) -> Plan:
    """Draw a lesion: about one in six is small (6–18 mm), the others 18–54 mm across.

    Larger ones are more frequent, as in BraTS.
    """
    small = rng.random() < 0.16
    diameter = rng.uniform(6, 18) if small else 18 + 36 * rng.beta(2.6, 1.5)
    diameter = max(float(diameter), 2 * spacing_mm)
    chances = (0.1, 0.3, 0.6) if small else (0.6, 0.25, 0.15)
    kinds: tuple[Kind, ...] = ("necrotic", "solid", "diffuse")
    kind = kinds[int(rng.choice(3, p=chances))]
    share = rng.uniform(0.35, 0.65) if kind == "diffuse" else rng.uniform(0.1, 0.45)
    core = diameter / 2 * share ** (1 / 3)
    strength = 0.08 if kind == "diffuse" else rng.uniform(0.2, 0.55)
    oedema = rng.uniform(0.12, 0.35) if small or kind == "diffuse" else rng.uniform(0.2, 0.5)
    return Plan(
        kind=kind,
        centre_mm=maps.seeds_mm[int(rng.integers(len(maps.seeds_mm)))],
        diameter_mm=diameter,
        core_mm=float(core),
        push_mm=min(float(strength * core), 7.0),
        oedema=float(oedema),
        rim=float(oedema if kind == "diffuse" else rng.uniform(0.05, 0.35)),
        necrosis=float(rng.uniform(0.35, 0.85)),
    )


def push_aside(plan: Plan, place_mm: FloatArray, depth_mm: FloatArray) -> None:
    """Move places (3, n) in MNI space, in place, as the mass displaces the tissue around it.

    The displacement is largest at the surface of the core and decays outwards; looking the maps
    up nearer to the centre is what makes them appear moved away from it.
    """
    offset = place_mm - plan.centre_mm[:, None]
    radius = np.sqrt((offset**2).sum(axis=0)) + np.float32(1e-3)
    beyond = np.maximum(radius - plan.core_mm, 0)
    shift = plan.push_mm * np.minimum(radius / plan.core_mm, np.exp(-beyond / _REACH_MM))
    shift *= np.clip(depth_mm / _ROOM_MM, 0, 1)
    place_mm -= offset * (shift / radius).astype(np.float32)


def paint(
    rng: np.random.Generator,
    signal: FloatArray,
    tissue: Tissue,
    spread: Spread,
    plan: Plan,
    scanner: Water,
) -> FloatArray:
    """(n,): the signal with the lesion in it, from ``signal`` (n,) relative to white matter."""
    grey, white, csf = tissue.shares
    coarse, fine = (
        smooth_field(rng, tissue.grid, width, 1.0)[0][tissue.inside]
        for width in (max(plan.core_mm * 0.8, 6.0), 5.0)
    )
    # Oedema is vasogenic: it fills white matter and leaves much of the cortical ribbon as it was.
    water = spread.lesion * (white + 0.45 * grey)
    level = _level(plan.oedema * (1 + 0.12 * coarse + 0.06 * fine), scanner)
    further = np.maximum if scanner.fluid_bright else np.minimum  # CSF beside it stays as it is
    result: FloatArray = signal + water * further(level - signal, 0)
    if plan.kind == "diffuse":
        return result
    solid = _level(plan.rim * (1 + 0.35 * fine) + 0.1 * coarse, scanner)
    if plan.kind == "necrotic":
        dead = _step(0.7 + 0.22 * coarse - spread.radius, 0.15)
        liquid = _level(plan.necrosis * (1 + 0.2 * coarse + 0.1 * fine), scanner)
        solid = solid + dead * (liquid - solid)
    core = _step(1 - spread.radius, 0.12) * spread.lesion * (1 - 0.8 * csf)
    result += core * (solid - result)
    return result


def _level(fraction: FloatArray, scanner: Water) -> FloatArray:
    """Signal at ``fraction`` of the way from grey matter to CSF."""
    return scanner.level(np.clip(fraction, -0.15, 0.95))


def _step(value: FloatArray, width: float) -> FloatArray:
    """0 below −width, 1 above +width, smooth between."""
    t = np.clip(value / np.float32(2 * width) + np.float32(0.5), 0, 1)
    result: FloatArray = t * t * (3 - 2 * t)
    return result


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
