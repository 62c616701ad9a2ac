"""Places that stand out in a scan: clusters of the map behind its score, above a healthy level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from twinvae.decision import slice_thresholds
from twinvae.imaging import PreparedScan, back_to_scan, brain_on_scan
from twinvae.imaging.volume import turned, turned_affine
from twinvae.reporting.text import ordinal
from twinvae.scoring.deciding import DecidingMap

COLUMNS = (
    *("lesion", "place", "volume_ml", "peak"),
    *("x_mm", "y_mm", "z_mm", "peak_x_mm", "peak_y_mm", "peak_z_mm"),
)
"""Columns of lesions.tsv: number from 1, the highest peak first; where in the brain; volume; peak
of the map in times its threshold; centre and peak in mm in the scan's world (RAS)."""
LEAST_ML = 0.1
"""Smaller clusters are left out."""
_OWN_PERCENTILE = 99.5  # of the scan's own map, where the bundle has no healthy level for it
_NEIGHBOURS = np.ones((3, 3, 3), bool)  # voxels that touch at a corner are connected
_MIDLINE = 0.06  # of the brain's width, to either side of its middle


@dataclass(frozen=True)
class Level:
    """From where on a map stands out."""

    values: npt.NDArray[np.float64]
    """(n,), a threshold for each slice, above 0; infinite where nothing does."""
    says: str
    """What it is, in a sentence."""


def level_of(
    calibration: Mapping[str, Any],
    scores: pd.DataFrame,
    highest: str | None,
    values: npt.NDArray[np.float32],
    brain: npt.NDArray[np.uint8],
) -> Level:
    """The level of a map, of its ``values`` (n, H, W), in the slices of ``scores``.

    ``highest``: the score that is the map's maximum in a slice. Where it is calibrated, its
    thresholds are the level; else a percentile of the scan's own map inside ``brain`` (n, H, W).
    """
    if highest in calibration["scores"] and highest in scores:
        entry, bound = slice_thresholds(calibration, scores, highest)[0]
        if (bound > 0).all():
            low, high = float(bound.min()), float(bound.max())
            level = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}, by slice"
            return Level(
                bound,
                f"Threshold: {level}, the {ordinal(entry['percentile'])} percentile of the map's "
                f"maximum in healthy validation slices.",
            )
    inside = values[brain > 0]
    own = float(np.percentile(inside, _OWN_PERCENTILE)) if inside.size else 0.0
    own = max(own, float(np.finfo(np.float32).tiny))
    return Level(
        np.full(len(values), own),
        f"Threshold: {own:.3g}, the {ordinal(_OWN_PERCENTILE)} percentile of the map in this very "
        f"scan, since the bundle has no healthy level for it: some place always reaches it.",
    )


@dataclass(frozen=True)
class Lesions:
    """Clusters of voxels where a map reaches its level, the highest peak first."""

    table: pd.DataFrame
    """One row a cluster: ``COLUMNS``."""
    peaks: list[tuple[int, int, int]]
    """Voxel of each cluster's peak."""
    labels: npt.NDArray[np.int32]
    """(X, Y, Z): 0, or the cluster's number in the table."""


@dataclass(frozen=True)
class Places:
    """Where the map behind the score stands out.

    Volumes have the scan's own voxels, their axes turned to point right, anterior and superior.
    """

    deciding: DecidingMap
    level: Level
    relative: npt.NDArray[np.float32]
    """(n, H, W), one a prepared slice: the map in times its level, 0 outside the brain."""
    on_scan: npt.NDArray[np.float32]
    """(X, Y, Z): the same."""
    brain: npt.NDArray[np.bool_]
    """(X, Y, Z)."""
    affine: npt.NDArray[np.float64]
    """4×4: from these voxels to mm in the world (RAS)."""
    lesions: Lesions


def places_of(
    deciding: DecidingMap,
    values: npt.NDArray[np.float32],
    prepared: PreparedScan,
    scores: pd.DataFrame,
    calibration: Mapping[str, Any],
) -> Places:
    """Hold the map ``deciding``, of ``values`` (n, H, W), against its level and find clusters."""
    level = level_of(calibration, scores, deciding.highest, values, prepared.brain)
    relative = (values / level.values[:, None, None] * prepared.brain).astype(np.float32)
    orientation, own = prepared.grid.orientation, back_to_scan(relative, prepared)
    affine = turned_affine(own.affine, orientation, own.data.shape)
    brain = turned(brain_on_scan(prepared), orientation)
    on_scan = turned(own.data, orientation)
    lesions = find_lesions(on_scan, brain, affine)
    return Places(deciding, level, relative, on_scan, brain, affine, lesions)


def find_lesions(
    relative: npt.NDArray[np.float32],
    brain: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
) -> Lesions:
    """Clusters of voxels at 1 or more, from ``LEAST_ML`` up.

    ``relative``: (X, Y, Z), the map in times its level, its axes pointing right, anterior,
    superior; ``brain``: (X, Y, Z); ``affine``: from these voxels to mm in the world.
    """
    found, count = _clusters(relative >= 1)
    voxels, voxel_ml = np.argwhere(found), abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    which, value = found[tuple(voxels.T)] - 1, relative[tuple(voxels.T)]
    size = np.bincount(which, minlength=count)
    large = np.flatnonzero(size * voxel_ml >= LEAST_ML)
    if not len(large):
        none = np.zeros(relative.shape, np.int32)
        return Lesions(pd.DataFrame(columns=list(COLUMNS)), [], none)
    members = [np.flatnonzero(which == one) for one in large]
    centre = np.array([voxels[rows].mean(axis=0) for rows in members])
    at = np.array([voxels[rows[np.argmax(value[rows])]] for rows in members])
    peak = relative[tuple(at.T)].astype(np.float64)
    order = np.argsort(-peak, kind="stable")
    number = np.zeros(count + 1, np.int32)
    number[large[order] + 1] = np.arange(1, len(order) + 1)
    extent = _extent(brain)
    table = pd.DataFrame(
        {
            "lesion": np.arange(1, len(order) + 1),
            "place": [in_words(centre[i], extent) for i in order],
            "volume_ml": (size[large] * voxel_ml)[order].round(3),
            "peak": peak[order].round(3),
            **_mm("", centre[order], affine),
            **_mm("peak_", at[order], affine),
        }
    )
    peaks = [(int(x), int(y), int(z)) for x, y, z in at[order]]
    return Lesions(table[list(COLUMNS)], peaks, number[found])


def _clusters(high: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
    """The number of each voxel's cluster, (X, Y, Z), or 0; and how many there are."""
    found = np.zeros(high.shape, np.int32)
    low, up = _extent(high).T.astype(np.int64)  # a small part of the volume, in most scans
    box = tuple(slice(a, b + 1) for a, b in zip(low, up, strict=True))
    found[box], count = ndimage.label(high[box], _NEIGHBOURS)
    return found, count


def in_words(voxel: npt.NDArray[np.float64], extent: npt.NDArray[np.float64]) -> str:
    """Where a voxel lies in the brain's extent, (3, 2): its side, then the outer thirds.

    >>> in_words(np.array([2.0, 8.0, 5.0]), np.array([[0.0, 10.0]] * 3))
    'left, anterior'
    """
    share = (voxel - extent[:, 0]) / np.maximum(extent[:, 1] - extent[:, 0], 1)
    side = "left" if share[0] < 0.5 else "right"
    words = ["midline" if abs(share[0] - 0.5) < _MIDLINE else side]
    for at, low, high in ((share[1], "posterior", "anterior"), (share[2], "inferior", "superior")):
        if not 1 / 3 <= at <= 2 / 3:
            words.append(low if at < 1 / 3 else high)
    return ", ".join(words if len(words) > 1 else [*words, "central"])


def _extent(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """First and last voxel of a mask along each axis, (3, 2); all where it is empty."""
    ends = []
    for axis in range(3):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ends.append((inside[0], inside[-1]) if len(inside) else (0, mask.shape[axis] - 1))
    return np.array(ends, np.float64)


def _mm(
    prefix: str, voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float64]]:
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    return {f"{prefix}{axis}_mm": world[:, i].round(1) for i, axis in enumerate("xyz")}
