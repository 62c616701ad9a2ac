"""Keep the axial slices worth looking at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from twinvae.config import SelectSlices
from twinvae.errors import DataError
from twinvae.imaging.scan import Ints, Working
from twinvae.imaging.steps.base import Fitted, apply_step


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


def without_tumour(scan: Working) -> Working:
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
