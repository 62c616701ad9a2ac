"""Whether a scan is like the healthy validation scans; if not, thresholds say nothing about it.

A scan is out of domain when one of its statistics lies outside the range of the healthy scans and
more than ``LIMIT`` robust standard deviations from their median. Every statistic changes little
with a tumour: voxel size and brain volume do not see it; intensities are medians over the scan's
slices, of which a large tumour touches about half; what the healthy model makes of the scan is a
lesion's own measure, so the tenth of the slices that it finds least odd stands for the scan.
Intensities in the scan's own units are not looked at: they differ between scanners, and the recipe
scales them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from twinvae.decision.sample import BoolArray

LIMIT = 6.0
"""Robust z beyond which a statistic is out of domain."""
RECIPE_STATISTICS = ("spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "brain_ml")
"""Columns of slices/scans.tsv that are looked at."""
_PERCENTILES = (10, 25, 50, 75, 90)
_SCORES = ("image_l2", "healthy_mean_norm")
"""What the healthy model makes of the scan: how far its reconstruction is, how unusual it finds
the scan itself."""
_LEAST_ODD = 0.1  # quantile over slices; a glioma leaves more than a tenth of them alone
_INTENSITY = "intensity_p"
_DEPTH = "depth_correlation"
# A standard deviation is at least this, since few scans of one scanner may hardly differ:
_LEAST_INTENSITY = 0.015  # of the unit interval
_LEAST_CORRELATION = 0.03
_LEAST_LOG = 0.05  # of everything else, which is compared by factors


@dataclass(frozen=True)
class Outside:
    """One statistic of a scan that no healthy scan comes near."""

    statistic: str
    value: float
    healthy_low: float
    healthy_high: float
    healthy_median: float
    robust_z: float
    """Distance from the median in robust standard deviations, of the logarithm where ``factor`` is
    not None."""
    factor: float | None
    """Value by median; None for intensities in [0, 1] and correlations."""

    def __str__(self) -> str:
        times = "" if self.factor is None else f", {self.factor:.3g} times their median"
        return (
            f"{self.statistic} is {self.value:.4g}; healthy scans have {self.healthy_low:.4g} to "
            f"{self.healthy_high:.4g} (robust z {self.robust_z:+.1f}{times})"
        )


def scan_facts(
    images: npt.NDArray[np.uint16],
    brain: npt.NDArray[np.uint8],
    statistics: Mapping[str, float],
    scores: pd.DataFrame,
) -> dict[str, float]:
    """The statistics of one scan.

    ``images`` (n, H, W) as stored, ``brain`` (n, H, W) 0 or 1, ``statistics`` as in
    slices/scans.tsv, ``scores`` the scan's rows of a scores table.
    """
    slices = [(x, mask > 0) for x, mask in zip(images, brain, strict=True) if mask.any()]
    each = [np.percentile(x[mask], _PERCENTILES) / np.iinfo(np.uint16).max for x, mask in slices]
    middle = np.median(each, axis=0) if each else np.zeros(len(_PERCENTILES))
    depth = [depth_correlation(x, mask) for x, mask in slices]
    return {
        **{name: float(statistics[name]) for name in RECIPE_STATISTICS},
        **{f"{_INTENSITY}{p}": float(v) for p, v in zip(_PERCENTILES, middle, strict=True)},
        _DEPTH: float(np.median(depth)) if depth else 0.0,
        **{name: float(scores[name].quantile(_LEAST_ODD)) for name in _SCORES if name in scores},
    }


def depth_correlation(image: npt.NDArray[Any], mask: BoolArray) -> float:
    """Correlation of intensity with the distance from the brain's edge, in one slice (H, W).

    Tells contrasts apart that scaling makes alike: in T1w white matter, which lies deep, is bright
    and the fluid at the rim dark, in T2w the other way round. 0 for a slice of one intensity.
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask]
    pixels = image[mask].astype(np.float64)
    if np.ptp(pixels) == 0 or np.ptp(depth) == 0:
        return 0.0
    return float(np.corrcoef(depth, pixels)[0, 1])


def domain_of(facts: Sequence[Mapping[str, float]], subjects: Sequence[str]) -> dict[str, Any]:
    """What healthy scans are like, from the facts of each and its subject: plain values for JSON.

    ``leave_one_out_rate``: the share of these scans that are out of the domain of the other
    subjects' scans; null with one subject.
    """
    table, subject = pd.DataFrame(list(facts)), np.asarray(subjects)
    flagged = [
        bool(outside(_reference(table[subject != who]), one))
        for who, one in zip(subject, facts, strict=True)
        if (subject != who).any()
    ]
    return {
        "rule": f"out of domain: outside the healthy range and more than {LIMIT:g} robust standard "
        "deviations from the healthy median",
        "n_scans": len(table),
        "leave_one_out_rate": float(np.mean(flagged)) if flagged else None,
        **_reference(table),
    }


def outside(domain: Mapping[str, Any], facts: Mapping[str, float]) -> tuple[Outside, ...]:
    """The statistics that put a scan out of ``domain``, the farthest first."""
    found = []
    for name, entry in domain["statistics"].items():
        value = facts[name]
        z = (_scaled(name, value) - _scaled(name, entry["median"])) / entry["spread"]
        if abs(z) > LIMIT and not entry["low"] <= value <= entry["high"]:
            factor = None if _linear(name) else value / entry["median"]
            around = (entry["low"], entry["high"], entry["median"])
            found.append(Outside(name, value, *around, float(z), factor))
    return tuple(sorted(found, key=lambda one: -abs(one.robust_z)))


def _reference(table: pd.DataFrame) -> dict[str, Any]:
    return {"statistics": {str(name): _entry(str(name), table[name]) for name in table}}


def _entry(name: str, column: pd.Series) -> dict[str, float]:
    values = column.to_numpy(dtype=np.float64)
    median = float(np.median(values))
    deviations = np.abs([_scaled(name, v) - _scaled(name, median) for v in values])
    spread = max(
        1.4826 * float(np.median(deviations)), _least(name)
    )  # MAD of a normal distribution
    return {
        "median": median,
        "spread": spread,
        "low": float(values.min()),
        "high": float(values.max()),
    }


def _scaled(name: str, value: float) -> float:
    return value if _linear(name) else float(np.log(max(value, 1e-12)))


def _linear(name: str) -> bool:
    """Whether a statistic is compared as it is, not by its logarithm."""
    return name.startswith(_INTENSITY) or name == _DEPTH


def _least(name: str) -> float:
    if name == _DEPTH:
        return _LEAST_CORRELATION
    return _LEAST_INTENSITY if _linear(name) else _LEAST_LOG
