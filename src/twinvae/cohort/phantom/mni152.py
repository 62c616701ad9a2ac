"""The MNI152 tissue maps every generated brain is made from.

They are the ICBM 2009a symmetric averages (Fonov et al. 2011) in the wheel of nilearn; the files
are read directly because importing nilearn takes 1.5 s and this is done once in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twinvae.errors import DataError

FloatArray = npt.NDArray[np.float32]

ORIGIN_MM = np.array([-98.0, -134.0, -72.0], dtype=np.float32)
_LOWEST = 4  # slices of brainstem left out below, as skull stripping does
COARSE = 2  # the smooth maps are kept on a grid of 2 mm


class Averages(NamedTuple):
    """The template's averages, (197, 233, 189) at 1 mm, RAS."""

    t1: npt.NDArray[np.uint8]
    """Intensity; 0 outside the brain."""
    grey: npt.NDArray[np.uint8]
    """Grey matter in 255ths."""
    white: npt.NDArray[np.uint8]
    """White matter in 255ths."""
    brain: npt.NDArray[np.bool_]
    """The brain, but for the lowest slices of the brainstem."""


@dataclass(frozen=True)
class Maps:
    """Anatomy in MNI space or, from a label map, in its pose; RAS.

    The template's arrays are (197, 233, 189) at 1 mm and (99, 117, 95) at 2 mm.
    """

    brain: npt.NDArray[np.uint8]
    """(X, Y, Z) at 1 mm: share of brain nearby, in 255ths."""
    tissue: tuple[npt.NDArray[Any], ...]
    """Four (X, Y, Z) at 1 mm: grey matter, white matter and CSF in 255ths; and T1 intensity
    over what these shares predict, 128 = as predicted."""
    warp: tuple[FloatArray, ...]
    """Five at 2 mm: direction along x, y, z away from the ventricles; distance in mm
    from their walls, negative inside; and depth in mm below the surface of the brain."""
    seeds_mm: FloatArray
    """(n, 3): places in mm where a glioma may begin: cerebral white matter, 10 mm deep."""
    origin_mm: FloatArray
    """(3,): centre of voxel (0, 0, 0) of every array."""


@cache
def load_maps() -> Maps:
    """Read the maps once per process (about 1 s)."""
    t1, grey, white, brain = load_averages()
    csf = _csf(t1, grey, white, brain)
    coarse = np.s_[::COARSE, ::COARSE, ::COARSE]
    depth = ndimage.distance_transform_edt(brain[coarse]).astype(np.float32) * COARSE
    detail = _detail(t1, grey, white, csf, brain)
    return Maps(
        brain=brain_nearby(brain),
        tissue=(grey, white, csf, detail),
        warp=(*_ventricles(csf[coarse] > 128, depth), depth),
        seeds_mm=lobar_seeds(white[coarse] > 230, depth, ORIGIN_MM),
        origin_mm=ORIGIN_MM,
    )


@cache
def load_averages() -> Averages:
    """Read the averages once per process (0.1 s)."""
    t1, grey, white = (_read(name) for name in ("t1", "gm", "wm"))
    brain = t1 > 0
    brain[:, :, :_LOWEST] = False
    return Averages(t1, grey, white, brain)


def brain_nearby(brain: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Share of ``brain`` (X, Y, Z) in the five voxels a side around each, in 255ths."""
    shares: npt.NDArray[np.uint8] = ndimage.uniform_filter(
        brain.astype(np.uint8) * np.uint8(255), size=5
    )
    return shares


def look_up(
    maps: Sequence[npt.NDArray[Any]],
    place_mm: FloatArray,
    spacing_mm: int = 1,
    origin_mm: FloatArray = ORIGIN_MM,
) -> list[FloatArray]:
    """Linear interpolation of each of ``maps`` (X, Y, Z) at ``place_mm`` (3, n) in their space."""
    at = (place_mm - origin_mm[:, None]) / np.float32(spacing_mm)
    return [ndimage.map_coordinates(m, at, order=1, output=np.float32) for m in maps]


def _read(name: str) -> npt.NDArray[np.uint8]:
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("nilearn: not installed, expected its wheel with the MNI152 maps")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected the MNI152 map that nilearn ships")
    return np.asarray(nib.load(path).dataobj, dtype=np.uint8)  # type: ignore[attr-defined]


def _csf(
    t1: npt.NDArray[np.uint8],
    grey: npt.NDArray[np.uint8],
    white: npt.NDArray[np.uint8],
    brain: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint8]:
    """CSF = brain − GM − WM, or the darkness of the T1 average where that says more.

    Averaging over people hides most sulci in the GM map; the T1 average still shows them.
    """
    rest = 255 - grey.astype(np.int16) - white
    dark = (150 - t1.astype(np.int16)) * 3
    csf: npt.NDArray[np.uint8] = (np.clip(np.maximum(rest, dark), 0, 255) * brain).astype(np.uint8)
    return csf


def _detail(
    t1: npt.NDArray[np.uint8],
    grey: npt.NDArray[np.uint8],
    white: npt.NDArray[np.uint8],
    csf: npt.NDArray[np.uint8],
    brain: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint8]:
    """What the T1 average shows inside a tissue: the deep nuclei, tracts, layers."""
    g, w, c = (share.astype(np.int32) for share in (grey, white, csf))
    predicted = (165 * g + 224 * w + 75 * c) // np.maximum(g + w + c, 1)
    detail = 128 + (t1.astype(np.int32) - predicted) * brain
    limited: npt.NDArray[np.uint8] = np.clip(detail, 0, 255).astype(np.uint8)
    return limited


def _ventricles(csf: npt.NDArray[np.bool_], depth: FloatArray) -> list[FloatArray]:
    """What ``away_from`` says of the template's ventricles."""
    x, y, z = (
        ORIGIN_MM[axis] + COARSE * np.arange(n, dtype=np.float32)
        for axis, n in enumerate(csf.shape)
    )
    box = (
        (np.abs(x) < 48)[:, None, None]
        & ((y > -56) & (y < 40))[None, :, None]
        & ((z > -12) & (z < 34))[None, None, :]
    )
    cistern = (np.abs(x) < 14)[:, None, None] & (y < -34)[None, :, None]
    labels, _ = ndimage.label(csf & box & ~cistern & (depth > 14))
    size_ml = np.bincount(labels.ravel()) * COARSE**3 / 1000
    size_ml[0] = 0
    return away_from((size_ml > 2)[labels])


def away_from(ventricles: npt.NDArray[np.bool_]) -> list[FloatArray]:
    """Direction away from the ventricles (3 maps) and distance from their walls in mm, at 2 mm."""
    outside = ndimage.distance_transform_edt(~ventricles)
    inside = ndimage.distance_transform_edt(ventricles)
    distance = ndimage.gaussian_filter((outside - inside).astype(np.float32) * COARSE, 1.0)
    return [*((g / COARSE).astype(np.float32) for g in np.gradient(distance)), distance]


def lobar_seeds(
    white: npt.NDArray[np.bool_], depth: FloatArray, origin_mm: FloatArray
) -> FloatArray:
    """(n, 3): places in mm of deep white matter of the lobes, from its mask and depth at 2 mm."""
    places = np.argwhere(white & (depth > 10)) * COARSE + origin_mm
    lateral = np.abs(places[:, 0]) > 14
    cerebral = (places[:, 2] > -16) | ((places[:, 2] > -30) & (places[:, 1] > -30))
    lobar = lateral & cerebral & (places[:, 2] < 55)
    seeds: FloatArray = places[lobar].astype(np.float32)
    return seeds
