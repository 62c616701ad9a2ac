"""White matter hyperintensities, which most healthy brains have from middle age on.

Caps and a rim around the ventricles, and dots and patches in deep white matter, after the grades of
Fazekas et al. (1987). They are a healthy variation: no lesion mask holds them.
"""

from __future__ import annotations

import numpy as np

from twinvae.cohort.phantom.anatomy import Tissue
from twinvae.cohort.phantom.fields import FloatArray, smooth_field
from twinvae.cohort.phantom.maps import COARSE, Maps, look_up

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
