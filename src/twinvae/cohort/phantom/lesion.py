"""Glioma-like lesions: what one is planned to be, how it displaces the brain, how it shows.

Where it spreads is worked out in ``growth.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from twinvae.cohort.phantom.anatomy import Tissue
from twinvae.cohort.phantom.fields import FloatArray, smooth_field
from twinvae.cohort.phantom.growth import Spread
from twinvae.cohort.phantom.maps import Maps

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
