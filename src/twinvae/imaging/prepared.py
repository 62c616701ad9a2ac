"""One scan prepared: its slices as the networks see them, and maps of them back on its own grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.errors import DataError
from twinvae.imaging.anatomy import anatomy_statistics
from twinvae.imaging.fitted_recipe import FittedRecipe, run_steps
from twinvae.imaging.resample import Taps, apply_taps, on_other_grid, resampling_taps
from twinvae.imaging.scan import (
    Facts,
    Knots,
    LogGain,
    Look,
    Moved,
    Pictures,
    ScanFiles,
    Window,
    Working,
)
from twinvae.imaging.volume import Affine, Bools, Floats, Volume, turned_back
from twinvae.vocabulary import FULL_SCALE

INDEX_COLUMNS = (
    *("subject", "session", "source", "role", "split", "slice", "position"),
    *("brain_px", "tumour_px", "spacing_mm", "pixel_mm"),
)


@dataclass(frozen=True)
class ScanGrid:
    """Where the kept slices lie on the scan's own grid; what ``back_to_scan`` needs.

    After the step register, ``spacing_mm``, ``brain``, ``kept`` and ``window`` are of the
    template's grid, and ``moved`` says where that lies.
    """

    affine: Affine
    """Of the file's array."""
    orientation: NDArray[np.float64]
    """How its axes became x, y, z (nibabel's orientation, (3, 2))."""
    spacing_mm: tuple[float, float, float]
    """Voxel size along x, y, z."""
    brain: Bools
    """(X, Y, Z) after reorientation, before any resampling."""
    kept: NDArray[np.int64]
    """Numbers along z of the slices, (n,)."""
    window: Window
    """The square they were cut from."""
    gain: LogGain | None = None
    """The bias field that was divided out."""
    moved: Moved | None = None
    """How the scan was brought onto a template's grid."""


@dataclass(frozen=True)
class PreparedScan:
    """A scan's slices as they are stored and as the networks get them.

    ``images``: uint16 (n, H, W), intensity times 65535. ``brain``, ``tumour``: uint8 (n, H, W),
    0 or 1. ``index``: one row a slice, columns ``INDEX_COLUMNS``. ``scale``: knots (scan units,
    unit interval) of the intensity map, empty when there was none. ``statistics``: what the scan
    was like, for out-of-domain checks. ``mirror``: uint16 (n, H, W), each slice's aligned mirror
    image, above 0 where that has brain; None without the step align_mirror.
    """

    files: ScanFiles
    images: NDArray[np.uint16]
    brain: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    index: pd.DataFrame
    grid: ScanGrid
    scale: Knots
    statistics: dict[str, float]
    facts: Facts = field(default_factory=dict)
    mirror: NDArray[np.uint16] | None = None


def prepare_scan(scan: ScanFiles, recipe: FittedRecipe) -> PreparedScan:
    """Read one scan and apply the recipe; the same scan always gives the same slices.

    Raises ``DataError`` when the scan, its masks or what the recipe makes of them cannot be used.
    """
    look = Look()
    working = run_steps(scan, recipe.steps, recipe.fitted, look)
    pictures = working.pictures
    assert pictures is not None  # crop_resize is in every recipe
    images, index = _quantised(working, pictures), _index(working, pictures)
    return PreparedScan(
        files=scan,
        images=images,
        brain=pictures.brain,
        tumour=pictures.tumour,
        index=index,
        grid=ScanGrid(
            affine=working.own_affine,
            orientation=working.orientation,
            spacing_mm=working.counted_spacing_mm,
            brain=working.counted_brain,
            kept=working.kept,
            window=pictures.window,
            gain=working.gain,
            moved=working.moved,
        ),
        scale=working.scale,
        statistics=_statistics(working, images, pictures, index),
        facts=look.facts,
        mirror=None if pictures.mirror is None else _stored(pictures.mirror),
    )


def unit_images(images: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Stored pictures as float32 in [0, 1]."""
    return images.astype(np.float32) / np.float32(FULL_SCALE)


def back_to_scan(maps: NDArray[np.float32], prepared: PreparedScan) -> Volume:
    """Put one map per kept slice, float32 (n, H, W), on the scan's own grid and orientation.

    Pixels are interpolated linearly in plane (averaged where the scan's are the larger ones).
    Voxels outside the brain, outside the crop, or in slices that were not kept are zero. Where
    the scan was registered, the way back to its own grid is the inverse of the way there.
    """
    if maps.shape != prepared.images.shape:
        raise ValueError(f"expected maps of shape {prepared.images.shape}, found {maps.shape}")
    grid = prepared.grid
    x, y, _ = grid.brain.shape
    rows = _taps(maps.shape[1], y, grid.spacing_mm[1], grid.window.y_max_mm, grid.window.pixel_mm)
    cols = _taps(maps.shape[2], x, grid.spacing_mm[0], grid.window.x_max_mm, grid.window.pixel_mm)
    pictures = apply_taps(apply_taps(np.asarray(maps, np.float32), cols, 2), rows, 1)
    data = np.zeros(grid.brain.shape, np.float32, order="F")  # as the pictures lie, row by row
    data[:, :, grid.kept] = pictures[:, ::-1, ::-1].transpose(2, 1, 0)
    data *= grid.brain
    if grid.moved is not None:
        data = _from_template(data, prepared)
    return Volume(turned_back(data, grid.orientation), grid.affine)


def in_scan_units(volume: Volume, prepared: PreparedScan) -> Volume:
    """Undo the recipe's intensity scaling and bias correction; zeros outside the brain stay zero.

    Values beyond the ends of the map go on along its first or last piece.
    """
    gain = prepared.grid.gain
    if not prepared.scale and gain is None:
        return volume
    inside = brain_on_scan(prepared).T  # x runs fastest in all of them
    values = volume.data.T[inside].astype(np.float64)  # the brain is a sixth of a stripped scan
    if prepared.scale:
        values = _invert_scale(values, prepared.scale)
    if gain is not None:
        values *= turned_back(gain.on_grid(), prepared.grid.orientation).T[inside]
    out = np.zeros(volume.data.shape, np.float32, order="F")
    out.T[inside] = values
    return Volume(out, volume.affine)


def brain_on_scan(prepared: PreparedScan) -> NDArray[np.bool_]:
    """The brain mask the recipe used, of kept slices only, on the scan's own grid."""
    grid = prepared.grid
    brain = _kept_brain(prepared)
    if grid.moved is not None:
        brain = _onto_scan(brain, prepared) >= 0.5
        brain &= grid.moved.brain
    return turned_back(brain, grid.orientation)


def whole_brain_on_scan(prepared: PreparedScan) -> NDArray[np.bool_]:
    """The brain mask the recipe used, of all slices, on the scan's own grid."""
    grid = prepared.grid
    return turned_back(grid.brain if grid.moved is None else grid.moved.brain, grid.orientation)


def _quantised(working: Working, pictures: Pictures) -> NDArray[np.uint16]:
    if not working.scale and (working.image.min() < 0 or working.image.max() > 1):
        raise DataError(
            f"{working.files.image}: expected intensities in [0, 1], found "
            f"{working.image.min():g} to {working.image.max():g}; add percentile_scale"
        )
    return _stored(pictures.image)


def _stored(image: Floats) -> NDArray[np.uint16]:
    stored: NDArray[np.uint16] = np.rint(image * np.float32(FULL_SCALE)).astype(np.uint16)
    return stored


def _index(working: Working, pictures: Pictures) -> pd.DataFrame:
    kept, files = working.kept, working.files
    if working.tumour_px is not None:
        tumour = pd.array(working.tumour_px[kept].tolist(), dtype="Int64")
    else:
        unknown = 0 if files.role == "healthy" else pd.NA
        tumour = pd.array([unknown] * len(kept), dtype="Int64")
    table = pd.DataFrame({"slice": kept, "brain_px": working.brain_px[kept], "tumour_px": tumour})
    table["position"] = np.round(np.clip(working.position, 0, 1), 6)
    for name in ("subject", "session", "source", "role", "split"):
        table[name] = getattr(files, name)
    x, y, _ = working.counted_spacing_mm
    table["spacing_mm"] = round(float(np.sqrt(x * y)), 6)
    table["pixel_mm"] = round(pictures.window.pixel_mm, 6)
    return table[list(INDEX_COLUMNS)]


def _statistics(
    working: Working, images: NDArray[np.uint16], pictures: Pictures, index: pd.DataFrame
) -> dict[str, float]:
    """What a scan was like: voxels, brain volume, intensities, and ``anatomy_statistics``."""
    moved, brain = working.moved, pictures.brain
    x, y, z = working.counted_spacing_mm if moved is None else moved.spacing_mm
    voxels = working.brain_px.sum() if moved is None else np.count_nonzero(moved.brain)
    values: dict[str, float] = {
        "spacing_x_mm": x,
        "spacing_y_mm": y,
        "spacing_z_mm": z,
        "brain_ml": round(float(voxels) * x * y * z / 1000, 3),
        "slices": float(len(working.kept)),
        "pixel_mm": pictures.window.pixel_mm,
    }
    if working.scale:
        values["scan_low"], values["scan_high"] = working.scale[0][0], working.scale[-1][0]
    inside = images[brain > 0] if brain.any() else np.zeros(1, np.uint16)
    for percentile in (1, 10, 25, 50, 75, 90, 99):
        value = float(np.percentile(inside, percentile)) / FULL_SCALE
        values[f"p{percentile:02d}"] = round(value, 6)
    values["mean"] = round(float(inside.mean()) / FULL_SCALE, 6)
    own = working.counted_brain if moved is None else moved.brain
    position = index["position"].to_numpy(np.float64)
    anatomy = anatomy_statistics(own, images, brain, position)
    return values | {name: round(value, 6) for name, value in anatomy.items()}


def _invert_scale(
    values: NDArray[np.float64], knots: tuple[tuple[float, float], ...]
) -> NDArray[np.float64]:
    """From the unit interval to scan units, beyond the ends along the first or last piece."""
    scan, unit = np.array(knots, float).T
    slope_low = (scan[1] - scan[0]) / (unit[1] - unit[0])
    slope_high = (scan[-1] - scan[-2]) / (unit[-1] - unit[-2])
    inverted: NDArray[np.float64] = np.interp(values, unit, scan)
    inverted += np.minimum(values - unit[0], 0) * slope_low
    inverted += np.maximum(values - unit[-1], 0) * slope_high
    return inverted


def _kept_brain(prepared: PreparedScan) -> Bools:
    """The brain of kept slices, on the grid the slices are numbered on."""
    grid = prepared.grid
    brain = np.zeros_like(grid.brain)
    brain[:, :, grid.kept] = grid.brain[:, :, grid.kept]
    return brain


def _from_template(data: Floats, prepared: PreparedScan) -> Floats:
    """From the template's grid to the scan's own after reorientation, averaged inside the brain."""
    moved = prepared.grid.moved
    assert moved is not None
    cover = _onto_scan(_kept_brain(prepared), prepared)
    values = _onto_scan(data, prepared)
    inside = (cover >= 0.5) & moved.brain
    return np.where(inside, values / np.maximum(cover, np.float32(0.5)), np.float32(0))


def _onto_scan(array: NDArray[Any], prepared: PreparedScan) -> Floats:
    """Interpolate an array on the template's grid at the voxels of the reoriented scan."""
    moved = prepared.grid.moved
    assert moved is not None
    x, y, z = moved.brain.shape
    back = np.asarray(np.linalg.inv(moved.place), np.float64)
    return on_other_grid(array, prepared.grid.spacing_mm, back, (x, y, z), moved.spacing_mm)


def _taps(pixels: int, cells: int, side_mm: float, far_mm: float, pixel_mm: float) -> Taps:
    """From ``pixels`` of the picture to ``cells`` of the scan, along a flipped axis."""
    start = (far_mm - cells * side_mm) / pixel_mm
    return resampling_taps(pixels, start, side_mm / pixel_mm, cells)
