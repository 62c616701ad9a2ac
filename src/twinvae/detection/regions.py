"""Abnormal regions: connected voxels where the map that decides reaches its slice's threshold.

The score of a slice is the maximum of a map over the brain (``scoring.deciding_map``). A region is
where that map reaches the score from which the slice is abnormal. Where the score is set among the
scan's slices (``in context``), the share of the scan's own level that it took off is put back onto
the threshold. The map is smoothed (``scoring.local_fwhm_mm``): a region says where and roughly how
large, it is no outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from twinvae.config import ScoringConfig
from twinvae.detection.verdict import Judgement
from twinvae.imaging import PreparedScan, Volume, back_to_scan
from twinvae.scoring.loop import in_context
from twinvae.scoring.table import CONTEXT_SUFFIX

LEAST_ML = 0.1
"""Smaller regions are left out."""


@dataclass(frozen=True)
class Regions:
    """The abnormal regions of a scan, the largest first."""

    labels: NDArray[np.int32]
    """(X, Y, Z) on the scan's own grid: 0, or the number of the region, from 1."""
    volumes_ml: tuple[float, ...]
    """Of each region."""


def find_regions(excess: Volume, least_ml: float = LEAST_ML) -> Regions:
    """Connected voxels (of all 26 neighbours) where ``excess`` is above 0, from ``least_ml`` up."""
    touching = np.ones((3, 3, 3), bool)
    found, count = ndimage.label(excess.data > 0, structure=touching)
    voxel_ml = float(np.prod(excess.spacing_mm)) / 1000
    volumes = np.bincount(found.ravel(), minlength=count + 1)[1:] * voxel_ml
    order = [n for n in np.argsort(-volumes, kind="stable") if volumes[n] >= least_ml]
    new = np.zeros(count + 1, np.int32)
    new[[n + 1 for n in order]] = np.arange(1, len(order) + 1)
    return Regions(new[found], tuple(float(volumes[n]) for n in order))


def region_levels(
    deciding: NDArray[np.float32],
    name: str,
    judgement: Judgement,
    prepared: PreparedScan,
    options: ScoringConfig,
) -> NDArray[np.float64]:
    """From which value on the deciding map makes its slice abnormal, (n,); may be infinite.

    ``deciding``: float32 (n, H, W), one a prepared slice. ``name``: the score that decides.
    """
    levels = judgement.slices["threshold"].to_numpy(np.float64)
    if not name.endswith(CONTEXT_SUFFIX):
        return levels
    inside = np.where(prepared.brain > 0, deciding, -np.inf)
    peaks = inside.max((1, 2)).astype(np.float64)[:, None]
    smoothed = in_context(peaks, prepared.index, options.context)[:, 0]
    return np.asarray(levels + smoothed - judgement.slices[name].to_numpy(np.float64))


def excess_on_scan(
    deciding: NDArray[np.float32], levels: NDArray[np.float64], prepared: PreparedScan
) -> Volume:
    """How far the deciding map is above its slice's level, on the scan's own grid.

    0 outside the brain and in slices that were not looked at.
    """
    finite = np.minimum(levels, 1e30)  # what is infinite cannot be interpolated
    return back_to_scan(deciding - finite.astype(np.float32)[:, None, None], prepared)
