"""A lesion planted in a whole scan: oedema around a core, its signal right for the contrast."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

PlantedContrast = Literal["T2w", "FLAIR", "T1w", "any"]

BRIGHT_SHARE: dict[PlantedContrast, float] = {"T2w": 0.9, "FLAIR": 0.9, "T1w": 0.1, "any": 0.5}
"""Share of lesions brighter than the tissue they are in. Fluid is bright in T2w and FLAIR and dark
in T1w; the rest are haemorrhage, calcification or, in T1w, fat and methaemoglobin."""

# Signal over the brain's median, (lowest, highest), of oedema or solid tumour and of necrosis.
_LEVELS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "T2w": ((1.35, 2.1), (1.8, 3.2)),
    "FLAIR": ((1.3, 2.0), (0.5, 1.5)),
    "T1w": ((0.6, 0.85), (0.35, 0.65)),
}
_CSF_BELOW = 0.5  # times the median: darker voxels are CSF in FLAIR and T1w, which nothing fills
_MARGIN = 1.8  # half side of the box worked in, in radii


def plant_in_volume(
    image: npt.NDArray[np.floating],
    brain: BoolArray,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    contrast: PlantedContrast = "T2w",
    diameter_mm: tuple[float, float] = (8.0, 55.0),
) -> tuple[FloatArray, BoolArray]:
    """Plant one lesion in a healthy scan; inputs are left as they are.

    Args:
        image: (X, Y, Z), any unit in which the brain's median is positive.
        brain: (X, Y, Z), not empty.
        spacing_mm: size of a voxel; slices may be thick.
        rng: the same state gives the same lesion.
        contrast: decides the signal of oedema and core; "any" draws T2w's or T1w's.
        diameter_mm: lowest and highest diameter, drawn evenly on a logarithmic scale.

    Returns:
        The scan with the lesion, float32 in the units of ``image``, and the lesion's mask: voxels
        of the brain where it makes up at least half.
    """
    if brain.shape != image.shape or not brain.any():
        raise ValueError(
            f"brain: expected a mask of shape {image.shape} with voxels in it, found "
            f"{int(brain.sum())} voxels of {brain.shape}"
        )
    if contrast == "any":
        contrast = "T2w" if rng.random() < BRIGHT_SHARE["any"] else "T1w"
    result = image.astype(np.float32)
    median = float(np.median(result[brain]))
    radius_mm = float(np.exp(rng.uniform(*np.log(diameter_mm)))) / 2
    centre = _centre(brain, spacing_mm, radius_mm, rng)
    box = _box(centre, radius_mm, spacing_mm, image.shape)
    inside = brain[box]
    if contrast != "T2w":
        csf = ndimage.gaussian_filter(result[box], 0.5) < _CSF_BELOW * median
        inside = inside & ~csf
    lesion, core = _lesion_and_core(centre, box, radius_mm, spacing_mm, rng)
    lesion *= inside
    level = _level(lesion.shape, core, radius_mm, spacing_mm, contrast, rng) * np.float32(median)
    result[box] += lesion * (_beyond(result[box], level, contrast) - result[box])
    mask = np.zeros(brain.shape, dtype=np.bool_)
    mask[box] = (lesion >= 0.5) & inside
    mask[tuple(centre)] = True
    return result, mask


def _centre(
    brain: BoolArray,
    spacing_mm: tuple[float, float, float],
    radius_mm: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """A voxel of the brain, deep enough that most of the lesion lies inside, where one is."""
    depth = ndimage.distance_transform_edt(brain, sampling=spacing_mm)
    deep = np.argwhere(depth >= min(0.6 * radius_mm, 0.7 * float(depth.max())))
    chosen: npt.NDArray[np.int64] = deep[rng.integers(len(deep))]
    return chosen


def _box(
    centre: npt.NDArray[np.int64],
    radius_mm: float,
    spacing_mm: tuple[float, float, float],
    shape: tuple[int, ...],
) -> tuple[slice, ...]:
    reach = np.ceil(_MARGIN * radius_mm / np.asarray(spacing_mm)).astype(int) + 1
    return tuple(
        slice(max(c - r, 0), min(c + r + 1, n))
        for c, r, n in zip(centre, reach, shape, strict=True)
    )


def _lesion_and_core(
    centre: npt.NDArray[np.int64],
    box: tuple[slice, ...],
    radius_mm: float,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Shares of lesion and of core in each voxel of the box."""
    axes = np.ogrid[box]
    stretch = np.exp(rng.normal(0, 0.18, size=3))
    offsets = [
        (axis - c) * mm * s
        for axis, c, mm, s in zip(axes, centre, spacing_mm, stretch, strict=True)
    ]
    distance = np.sqrt(sum(o**2 for o in offsets)).astype(np.float32) / np.float32(radius_mm)
    shape = distance.shape
    lobes = _field(shape, 0.5 * radius_mm, spacing_mm, rng)
    ragged = _field(shape, 2.5, spacing_mm, rng)
    radius = distance * np.exp(0.22 * lobes + 0.05 * ragged)
    edge = rng.uniform(1.5, 6.0) / radius_mm
    inner = rng.uniform(0.3, 0.7) * (rng.random() < 0.6)
    core = _step((inner * np.exp(0.2 * ragged) - radius) / 0.12) * (inner > 0)
    return _step((1 - radius) / max(edge, 0.05)), core.astype(np.float32)


def _level(
    shape: tuple[int, ...],
    core: FloatArray,
    radius_mm: float,
    spacing_mm: tuple[float, float, float],
    contrast: str,
    rng: np.random.Generator,
) -> FloatArray:
    """Signal of the lesion over the brain's median, textured."""
    outer, inner = (rng.uniform(*span) for span in _LEVELS[contrast])
    coarse = _field(shape, max(0.5 * radius_mm, 5.0), spacing_mm, rng)
    fine = _field(shape, 3.0, spacing_mm, rng)
    texture = 1 + 0.08 * coarse + 0.05 * fine
    level: FloatArray = ((outer + core * (inner - outer)) * texture).astype(np.float32)
    return np.maximum(level, 0)


def _beyond(image: FloatArray, level: FloatArray, contrast: str) -> FloatArray:
    """``level``, but where the scan is already further out (CSF in T2w and T1w) the scan itself."""
    if contrast == "FLAIR":
        return level
    return np.maximum(image, level) if contrast == "T2w" else np.minimum(image, level)


def _field(
    shape: tuple[int, ...],
    width_mm: float,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> FloatArray:
    """Smooth noise of mean 0 and standard deviation 1, with details about ``width_mm`` wide."""
    sigma = [0.4 * width_mm / mm for mm in spacing_mm]
    noise = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, sigma, mode="wrap", truncate=3)
    field: FloatArray = (smooth / max(float(smooth.std()), 1e-6)).astype(np.float32)
    return field


def _step(value: npt.NDArray[np.floating]) -> FloatArray:
    """0 below −½, 1 above ½, smooth between."""
    t = np.clip(value + 0.5, 0, 1)
    step: FloatArray = (t * t * (3 - 2 * t)).astype(np.float32)
    return step
