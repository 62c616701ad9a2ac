"""Whether a scan is like the healthy validation scans; if not, thresholds say nothing about it.

A scan is out of domain when one of its statistics lies outside the range of the healthy scans and
more than ``LIMIT`` widths from their median. A width is a robust standard deviation, but never less
than what a scanner or a person of another kind may differ by (``_WIDTHS``), since the healthy scans
of one source may hardly differ. What the recipe makes equal is not looked at: voxels finer than the
network's pixels, intensities in the scan's own units. What it cannot is: thick slices, a brain of
which a part is missing or that lies the wrong way round, another contrast, noise. Every statistic
changes little with a tumour: it does not see it (voxels, the brain's outline), stands for the
slices that are least bright or dark, or goes by ranks and leaves out the ends of the range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.errors import DataError
from twinvae.imaging.anatomy import STATISTICS as ANATOMY

LIMIT = 6.0
"""Widths from the healthy median beyond which a statistic is out of domain."""
RECIPE_STATISTICS = (
    *("spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "pixel_mm", "brain_ml"),
    *ANATOMY,
)
"""Columns of slices/scans.tsv that are looked at."""
# Percentiles inside a slice's brain, and the quantile over slices that stands for the scan: a large
# lesion is bright or dark in up to two thirds of the slices, and the others are asked.
_PERCENTILES = {10: 0.75, 25: 0.75, 50: 0.5, 75: 0.25, 90: 0.25}


@dataclass(frozen=True)
class _Width:
    """How a statistic is compared, and the least width."""

    least: float
    logarithm: bool = False
    """Compare by factors."""
    below: float = 1.0
    """Widths below the median are this many times as wide."""
    opposite: float | None = None
    """The width follows from the sign instead: the limit is this far on the other side of 0. Of
    what says which tissue is brighter, healthy scans' spread is no guide; its sign is."""


_TWICE = float(np.log(2.05)) / LIMIT  # twice as thick is still in; of thinner ones, a quarter
_WIDTHS: dict[str, _Width] = {
    "slice_mm": _Width(_TWICE, logarithm=True, below=2.0),
    "in_plane_mm": _Width(_TWICE, logarithm=True, below=2.0),
    "brain_ml": _Width(0.1, logarithm=True),  # people differ by 10 %
    # The outline depends on how brainstem and sulci are cut, which tools do in their own ways.
    "shape_correlation": _Width(0.0225),
    "shape_turned": _Width(0.03),
    "white_over_grey": _Width(0.05, opposite=0.12),
    "fluid_over_grey": _Width(0.05, opposite=0.05),
    "smoothness": _Width(0.08),
    **{f"intensity_p{p}": _Width(0.03) for p in _PERCENTILES},
}


@dataclass(frozen=True)
class Outside:
    """One statistic of a scan that no healthy scan comes near."""

    statistic: str
    value: float
    healthy_low: float
    healthy_high: float
    healthy_median: float
    robust_z: float
    """Distance from the median in widths, of the logarithm where ``factor`` is not None."""
    factor: float | None
    """Value by median, of what is compared by factors."""

    def __str__(self) -> str:
        times = "" if self.factor is None else f", {self.factor:.3g} times their median"
        return (
            f"{self.statistic} is {self.value:.4g}; healthy scans have {self.healthy_low:.4g} to "
            f"{self.healthy_high:.4g} (z {self.robust_z:+.1f}, limit {LIMIT:g}{times})"
        )


def scan_facts(
    images: npt.NDArray[np.uint16],
    brain: npt.NDArray[np.uint8],
    statistics: Mapping[str, float],
    scores: pd.DataFrame,
) -> dict[str, float]:
    """The statistics of one scan.

    ``images`` (n, H, W) as stored, ``brain`` (n, H, W) 0 or 1, ``statistics`` as in
    slices/scans.tsv. ``scores``, the scan's rows of a scores table, say nothing of the domain: what
    a model makes of a scan is what a lesion shows by.
    """
    del scores
    each = [
        np.percentile(x[mask > 0], list(_PERCENTILES)) / np.iinfo(np.uint16).max
        for x, mask in zip(images, brain, strict=True)
        if mask.any()
    ]
    slices = np.array(each) if each else np.zeros((1, len(_PERCENTILES)))
    known = {name: float(statistics[name]) for name in RECIPE_STATISTICS}
    in_plane = np.sqrt(known["spacing_x_mm"] * known["spacing_y_mm"])
    return {
        "slice_mm": known["spacing_z_mm"],
        # The recipe averages finer voxels to its own pixels; coarser ones it cannot sharpen.
        "in_plane_mm": float(max(in_plane, known["pixel_mm"])),
        "brain_ml": known["brain_ml"],
        **{name: known[name] for name in ANATOMY},
        **{
            f"intensity_p{p}": float(np.quantile(values, share))
            for (p, share), values in zip(_PERCENTILES.items(), slices.T, strict=True)
        },
    }


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
        "rule": f"out of domain: outside the healthy range and more than {LIMIT:g} widths from the "
        "healthy median",
        "n_scans": len(table),
        "leave_one_out_rate": float(np.mean(flagged)) if flagged else None,
        **_reference(table),
    }


def outside(domain: Mapping[str, Any], facts: Mapping[str, float]) -> tuple[Outside, ...]:
    """The statistics that put a scan out of ``domain``, the farthest first."""
    found = []
    for name, z in distances(domain, facts).items():
        entry, value = domain["statistics"][name], facts[name]
        if abs(z) > LIMIT and not entry["low"] <= value <= entry["high"]:
            factor = value / entry["median"] if _WIDTHS[name].logarithm else None
            around = (entry["low"], entry["high"], entry["median"])
            found.append(Outside(name, value, *around, z, factor))
    return tuple(sorted(found, key=lambda one: -abs(one.robust_z)))


def distances(domain: Mapping[str, Any], facts: Mapping[str, float]) -> dict[str, float]:
    """How many widths each statistic of a scan lies from the healthy median, with its sign.

    Raises ``DataError`` when ``domain`` is of other statistics, as an older twinvae's is.
    """
    known = domain["statistics"]
    other = sorted(set(known) ^ set(facts))
    if other:
        raise DataError(
            f"domain.json: expected the statistics {', '.join(facts)}, found a difference in "
            f"{', '.join(other)}; another twinvae wrote this bundle: calibrate its run anew "
            f"(twinvae calibrate RUN --force)"
        )
    found = {}
    for name, value in facts.items():
        away = _scaled(name, value) - _scaled(name, known[name]["median"])
        found[name] = away / known[name]["spread"] / (_WIDTHS[name].below if away < 0 else 1.0)
    return found


def _reference(table: pd.DataFrame) -> dict[str, Any]:
    return {"statistics": {str(name): _entry(str(name), table[name]) for name in table}}


def _entry(name: str, column: pd.Series) -> dict[str, float]:
    values = column.to_numpy(dtype=np.float64)
    median = float(np.median(values))
    width = _WIDTHS[name]
    if width.opposite is not None:
        spread = (abs(median) + width.opposite) / LIMIT
    else:
        deviations = np.abs([_scaled(name, v) - _scaled(name, median) for v in values])
        spread = 1.4826 * float(np.median(deviations))  # MAD of a normal distribution
    return {
        "median": median,
        "spread": max(spread, width.least),
        "low": float(values.min()),
        "high": float(values.max()),
    }


def _scaled(name: str, value: float) -> float:
    return float(np.log(max(value, 1e-12))) if _WIDTHS[name].logarithm else value
