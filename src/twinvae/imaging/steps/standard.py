"""The steps of every plain recipe, in their order; each looks at one scan alone.

``reorient`` to RAS+, find the brain (``brain_mask``), bring each slice to square pixels
(``resample_in_plane``), map intensities to the unit interval (``percentile_scale``), keep slices
(``select_slices``), and cut the networks' pictures out of them (``crop_resize``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.config import (
    BrainMask,
    CropResize,
    PercentileScale,
    Reorient,
    ResampleInPlane,
    SelectSlices,
)
from twinvae.errors import DataError
from twinvae.imaging.resample import Taps, apply_taps, resampling_taps
from twinvae.imaging.scan import Ints, Pictures, Window, Working
from twinvae.imaging.steps.hdbet import hd_bet_mask
from twinvae.imaging.steps.step import Fitted, apply_step
from twinvae.imaging.steps.template_mask import template_mask
from twinvae.imaging.volume import Bools, turn_of, turned

_WHOLE_HEAD = (
    "of a whole head give the brain mask (detect --brain-mask FILE), or have the brain found "
    "(detect --skull-strip; in a recipe: brain_mask method hd_bet or template)"
)
_RIM_SHARE = 0.5  # a stripped scan has less than this of its outermost voxels non-zero,
_MOST_ML = 2500.0  # and less than this in all: no brain is larger, a head is
_STRAY = 0.01  # lines of voxels with less than this of the fullest line's brain are no brain


@apply_step.register
def reorient(options: Reorient, scan: Working, fitted: Fitted) -> Working:
    """Reorient the image and its masks; an oblique scan goes to the nearest axes."""
    del options, fitted
    turn = turn_of(scan.own_affine)
    spacing = [0.0, 0.0, 0.0]
    for axis, (target, _) in enumerate(turn):
        spacing[int(target)] = scan.spacing_mm[axis]
    sides = (spacing[0], spacing[1], spacing[2])
    image = turned(scan.image, turn)
    everything = np.broadcast_to(np.True_, image.shape)
    return replace(
        scan,
        orientation=turn,
        image=image,
        spacing_mm=sides,
        given_brain=None if scan.given_brain is None else turned(scan.given_brain, turn),
        brain=everything,
        tumour=None if scan.tumour is None else turned(scan.tumour, turn),
        counted_brain=everything,
        counted_spacing_mm=sides,
        brain_px=np.zeros(image.shape[2], np.int64),
        kept=np.arange(image.shape[2]),
    )


@apply_step.register
def brain_mask(options: BrainMask, scan: Working, fitted: Fitted) -> Working:
    """Decide on the brain mask and set the image to zero outside it."""
    del fitted
    if options.method == "given" and scan.given_brain is None:
        raise DataError(
            f"{scan.files.image}: expected a brain mask beside the scan, found none "
            f"(the recipe's brain_mask says method: given)"
        )
    if options.method == "hd_bet":
        brain = hd_bet_mask(scan.image, scan.spacing_mm, options.networks)
        if not brain.any():
            raise DataError(f"{scan.files.image}: HD-BET found no brain")
    elif options.method == "template":
        try:
            brain = template_mask(scan.image, scan.spacing_mm)
        except DataError as error:
            raise DataError(f"{scan.files.image}: brain_mask method template: {error}") from None
    elif options.method == "background" or scan.given_brain is None:
        brain = _background(scan)
    else:
        brain = scan.given_brain
    return replace(
        scan,
        image=np.where(brain, scan.image, np.float32(0)),
        given_brain=None,
        brain=brain,
        counted_brain=brain,
        brain_px=np.count_nonzero(brain, axis=(0, 1)),
        tumour_px=None if scan.tumour is None else np.count_nonzero(scan.tumour, axis=(0, 1)),
    )


def _background(scan: Working) -> Bools:
    """The non-zero voxels of a skull-stripped scan."""
    brain: Bools = scan.image != 0
    rim = [face for axis in range(3) for face in np.moveaxis(brain, axis, 0)[[0, -1]]]
    share = sum(int(face.sum()) for face in rim) / sum(face.size for face in rim)
    if share > _RIM_SHARE:
        raise DataError(
            f"{scan.files.image}: expected a brain mask or a skull-stripped scan on a background "
            f"of zero, found {share:.0%} of the outermost voxels not zero; {_WHOLE_HEAD}"
        )
    volume_ml = float(np.prod(scan.spacing_mm)) * np.count_nonzero(brain) / 1000
    if volume_ml > _MOST_ML:
        raise DataError(
            f"{scan.files.image}: expected a brain mask or a skull-stripped scan, found "
            f"{volume_ml:.0f} ml of voxels that are not zero; no brain is as large; {_WHOLE_HEAD}"
        )
    return brain


@apply_step.register
def resample_in_plane(options: ResampleInPlane, scan: Working, fitted: Fitted) -> Working:
    """Resample x and y about the volume's middle; masks keep pixels at least half covered.

    A pixel on the brain's rim averages over the brain inside it, not over the void around.
    """
    del fitted
    taps, origin = [], []
    for axis in (0, 1):
        cells, side = scan.image.shape[axis], scan.spacing_mm[axis]
        count = int(np.ceil(round(cells * side / options.pixel_mm, 6)))
        start = (cells * side - count * options.pixel_mm) / 2
        taps.append(resampling_taps(cells, start / side, options.pixel_mm / side, count))
        origin.append(scan.origin_mm[axis] + start)
    cover = _resampled(scan.brain, taps)
    brain: Bools = cover >= 0.5
    if not brain.any():
        raise DataError(f"{scan.files.image}: no brain is left on pixels of {options.pixel_mm} mm")
    image = _resampled(np.where(scan.brain, scan.image, np.float32(0)), taps)
    return replace(
        scan,
        image=np.where(brain, image / np.maximum(cover, np.float32(0.5)), np.float32(0)),
        spacing_mm=(options.pixel_mm, options.pixel_mm, scan.spacing_mm[2]),
        brain=brain,
        tumour=None if scan.tumour is None else _resampled(scan.tumour, taps) >= 0.5,
        origin_mm=(origin[0], origin[1]),
    )


def _resampled(array: NDArray[Any], taps: list[Taps]) -> NDArray[np.float32]:
    return apply_taps(apply_taps(array, taps[0], 0), taps[1], 1)


@apply_step.register
def percentile_scale(options: PercentileScale, scan: Working, fitted: Fitted) -> Working:
    """Map the scan's own percentiles to 0 and ``level``, clip to [0, 1]; outside stays zero."""
    del fitted
    brain = scan.brain.T  # slice by slice, as they lie in memory
    values = scan.image.T[brain]
    low, high = (float(v) for v in np.percentile(values, [options.low, options.high]))
    if not low < high:
        raise DataError(
            f"{scan.files.image}: expected contrast inside the brain, found {low:g} as percentile "
            f"{options.low:g} and {high:g} as percentile {options.high:g}"
        )
    values -= np.float32(low)
    values *= np.float32(options.level / (high - low))
    image = np.zeros(brain.shape, np.float32)
    image[brain] = np.clip(values, 0, 1, out=values)
    return replace(scan, image=image.T, scale=((low, 0.0), (high, options.level)))


@apply_step.register
def select_slices(options: SelectSlices, scan: Working, fitted: Fitted) -> Working:
    """Keep, of the slices still wanted, those the options ask for, if they are for this role."""
    del fitted
    if options.role not in (None, scan.files.role):
        return scan
    if options.keep == "brain":
        kept = _with_brain(options, scan)
    elif options.keep == "middle":
        kept = _middle(options, scan)
    else:
        kept = scan.kept
    if not len(kept):
        raise DataError(
            f"{scan.files.image}: expected at least one slice to keep, found none "
            f"(largest brain area {_area_mm2(scan).max():.0f} mm²)"
        )
    return replace(scan, kept=kept)


def _area_mm2(scan: Working) -> NDArray[np.float64]:
    """Brain area of every slice."""
    x, y, _ = scan.counted_spacing_mm
    return np.asarray(scan.brain_px * (x * y), np.float64)


def _with_brain(options: SelectSlices, scan: Working) -> Ints:
    enough = (scan.brain_px > 0) & (_area_mm2(scan) >= options.min_area_mm2)
    kept = scan.kept[enough[scan.kept]]
    if options.count is None or len(kept) <= options.count:
        return kept
    ends = np.flatnonzero(scan.brain_px)[[0, -1]]
    nearest = np.argsort(np.abs(2 * kept - ends.sum()), kind="stable")
    return np.sort(kept[nearest[: options.count]])


def _middle(options: SelectSlices, scan: Working) -> Ints:
    slices = len(scan.brain_px)
    count = min(options.count or slices, slices)
    first = (slices - count) // 2
    return scan.kept[(scan.kept >= first) & (scan.kept < first + count)]


@apply_step.register
def crop_resize(options: CropResize, scan: Working, fitted: Fitted) -> Working:
    """Make the pictures: rows from anterior to posterior, columns from the right to the left.

    The square's centre is that of the bounding box of the whole brain, in plane; a few stray
    voxels do not move it.
    """
    del fitted
    scan = _without_tumour(scan)
    pixel = options.field_of_view_mm / options.size
    taps, far = [], []
    for axis in (0, 1):
        cells, side = scan.brain.shape[axis], scan.spacing_mm[axis]
        low, high = _extent(np.count_nonzero(scan.brain, axis=(1 - axis, 2)))
        centre = (cells - (low + high) / 2) * side  # mm from the flipped axis' outer edge
        start = centre - options.field_of_view_mm / 2
        taps.append(resampling_taps(cells, start / side, pixel / side, options.size))
        far.append(scan.origin_mm[axis] + cells * side - start)
    empty = np.zeros((len(scan.kept), options.size, options.size), np.uint8)
    return replace(
        scan,
        pictures=Pictures(
            image=np.clip(_cut(scan.image, scan.kept, taps), 0, 1),
            brain=_cut_mask(scan.brain, scan.kept, taps),
            tumour=empty if scan.tumour is None else _cut_mask(scan.tumour, scan.kept, taps),
            window=Window(far[0], far[1], pixel),
        ),
    )


def _without_tumour(scan: Working) -> Working:
    """A healthy scan that has a tumour mask keeps only its slices without a tumour pixel.

    Such a scan stands in for a healthy one (``cohort.tumour_free_as_healthy``).
    """
    if scan.files.role != "healthy" or scan.tumour_px is None:
        return scan
    kept = scan.kept[scan.tumour_px[scan.kept] == 0]
    if not len(kept):
        raise DataError(
            f"{scan.files.image}: expected at least one slice without tumour in a scan of role "
            f"healthy, found tumour in all {len(scan.kept)}"
        )
    return replace(scan, kept=kept)


def _extent(counts: Ints) -> tuple[int, int]:
    """Where the brain begins and ends (exclusive) along an axis, given its voxels per line."""
    lines = np.flatnonzero(counts > _STRAY * counts.max())
    return int(lines[0]), int(lines[-1]) + 1


def _cut(array: NDArray[Any], kept: Ints, taps: list[Taps]) -> NDArray[np.float32]:
    pictures = array.transpose(2, 1, 0)[:, ::-1, ::-1][kept]
    return apply_taps(apply_taps(pictures, taps[1], 1), taps[0], 2)


def _cut_mask(mask: NDArray[np.bool_], kept: Ints, taps: list[Taps]) -> NDArray[np.uint8]:
    return (_cut(mask, kept, taps) >= 0.5 - 1e-6).astype(np.uint8)
