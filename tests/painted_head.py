"""A whole head with a known brain: a bent MNI152 brain in fluid, bone and scalp, on a neck.

The brain is the template's own, so that this is easier than a real head: docs/recipe.md has those.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from twinvae.cohort.phantom.mni152 import load_maps

PAINT = {  # white matter, grey matter, fluid, bone, scalp
    "t1": (110, 80, 25, 12, 150),
    "t2": (55, 80, 160, 10, 90),
    "flair": (70, 90, 20, 8, 170),
}


@dataclass(frozen=True)
class Head:
    """Image and brain, (X, Y, Z) in RAS+."""

    image: np.ndarray
    brain: np.ndarray
    spacing_mm: tuple[float, float, float]


def painted_head(
    contrast: str,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    nod_deg: float = 0.0,
    seed: int = 0,
) -> Head:
    """Another size and shape than the template's, shaded and noisy; fluid counts as brain."""
    rng = np.random.default_rng(seed)
    maps = load_maps()
    around = ((10, 10), (10, 10), (26, 12))  # of 2 mm; below for the neck
    grey, white, csf = (
        np.pad(share[::2, ::2, ::2], around).astype(np.float32) for share in maps.tissue[:3]
    )
    inside = np.pad(maps.brain[::2, ::2, ::2], around) > 127
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(inside, iterations=4))
    outward = ndimage.distance_transform_edt(~inside) * 2
    white_, grey_, fluid, bone, scalp = PAINT[contrast]
    total = np.maximum(grey + white + csf, 1)
    image = np.where(inside, (white_ * white + grey_ * grey + fluid * csf) / total, 0)
    image[inside & (total < 128)] = fluid
    thick = 6 + 2 * ndimage.zoom(rng.uniform(-1, 1, (4, 4, 4)), np.array(inside.shape) / 4, order=1)
    image[(outward > 0) & (outward <= 2)] = fluid
    image[(outward > 2) & (outward <= 2 + thick)] = bone
    image[(outward > 2 + thick) & (outward <= 9 + thick)] = scalp
    x, y, z = np.indices(inside.shape)
    low = np.argwhere(inside)[:, 2].min()
    middle = inside.shape[0] / 2, inside.shape[1] / 2 - 5
    neck = ((x - middle[0]) / 26) ** 2 + ((y - middle[1]) / 30) ** 2 < 1
    image[neck & (z < low + 6) & (outward > 2 + thick)] = scalp * 0.8
    image *= np.exp(
        ndimage.zoom(rng.normal(0, 0.12, (4, 4, 4)), np.array(inside.shape) / 4, order=1)
    )
    image, brain = _bent(image, inside | (outward <= 2), nod_deg, spacing_mm, rng)
    real, imaginary = rng.normal(0, 3, (2, *image.shape))
    return Head(np.rint(np.hypot(image + real, imaginary)).astype(np.float32), brain, spacing_mm)


def _bent(
    image: np.ndarray,
    brain: np.ndarray,
    nod_deg: float,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Both of them smaller, nodding, and bent by some millimetres."""
    angle = np.deg2rad(nod_deg)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    shape = [int(n * 2 / side) for n, side in zip(image.shape, spacing_mm, strict=True)]
    at = np.indices(shape) * np.reshape(spacing_mm, (3, 1, 1, 1)) / 2
    middle = np.reshape(image.shape, (3, 1, 1, 1)) / 2
    at = np.einsum("ij,jxyz->ixyz", turn @ np.diag([1.1, 1.05, 1.12]), at - middle) + middle
    for axis in range(3):
        bend = ndimage.zoom(rng.normal(0, 2.0, (5, 5, 5)), np.array(shape) / 5, order=1)
        at[axis] += bend
    blurred = ndimage.gaussian_filter(image, [side / 5 for side in spacing_mm])
    return (
        ndimage.map_coordinates(blurred, at, order=1),
        ndimage.map_coordinates(brain.astype(np.float32), at, order=1) >= 0.5,
    )
