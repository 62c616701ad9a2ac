"""Bring maps made on the prepared slices back to the scan's own grid, and to its own units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.imaging.recipe import PreparedScan
from twinvae.imaging.resample import Taps, apply_taps, on_other_grid, resampling_taps
from twinvae.imaging.volume import Bools, Floats, Volume, turned_back


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
    data = np.zeros(grid.brain.shape, np.float32)
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
    inside = brain_on_scan(prepared)
    values = volume.data[inside].astype(np.float64)  # the brain is a sixth of a stripped scan
    if prepared.scale:
        values = _invert_scale(values, prepared.scale)
    if gain is not None:
        values *= turned_back(gain.on_grid(), prepared.grid.orientation)[inside]
    out = np.zeros(volume.data.shape, np.float32)
    out[inside] = values
    return Volume(out, volume.affine)


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


def brain_on_scan(prepared: PreparedScan) -> NDArray[np.bool_]:
    """The brain mask the recipe used, of kept slices only, on the scan's own grid."""
    grid = prepared.grid
    brain = _kept_brain(prepared)
    if grid.moved is not None:
        brain = _onto_scan(brain, prepared) >= 0.5
        brain &= grid.moved.brain
    return turned_back(brain, grid.orientation)


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
