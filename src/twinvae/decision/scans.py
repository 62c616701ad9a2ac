"""One number for a whole scan, and where it stands among healthy scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from twinvae.decision.sample import BoolArray, FloatArray


@dataclass(frozen=True)
class ScanSlices:
    """A scan's slices in the order of their numbers, all arrays (n,), at least one."""

    score: FloatArray
    number: FloatArray
    """Of the slice, along z."""
    called: BoolArray
    """Whether the slice is abnormal at the first percentile."""
    p_value: FloatArray
    least: FloatArray
    """The smallest p-value each slice could have had."""


@dataclass(frozen=True)
class Statistic:
    """One way to see a scan as a number, larger = more abnormal."""

    summary: str
    compute: Callable[[ScanSlices, int], float]
    """Takes the slices and ``decision.top_slices``."""
    of_scores: bool = False
    """Whether it is a function of the scan's scores alone. Then the scan-level conformal threshold
    is exact; else healthy scans are judged by slice thresholds that leave their subject out and
    new ones by all, so that it holds only nearly."""


def highest(scan: ScanSlices, top: int) -> float:
    """The highest score."""
    return float(scan.score.max())


def top_mean(scan: ScanSlices, top: int) -> float:
    """Mean of the ``top`` highest scores, of all if there are fewer."""
    return float(np.sort(scan.score)[-top:].mean())


def longest_run(scan: ScanSlices, top: int) -> float:
    """Slices in the longest run of neighbours that are all abnormal."""
    numbers = scan.number[scan.called]
    ends = np.flatnonzero(np.diff(numbers) != 1)
    runs = np.diff(np.concatenate([[-1], ends, [len(numbers) - 1]]))
    return float(runs.max()) if len(numbers) else 0.0


def fisher(scan: ScanSlices, top: int) -> float:
    """−2 Σ log p (Fisher). Neighbouring slices are dependent, so no χ² is read from it."""
    return float(-2.0 * np.log(scan.p_value).sum())


def stouffer(scan: ScanSlices, top: int) -> float:
    """Σ Φ⁻¹(1 − p) / √n (Stouffer), each p less half of its least, which keeps it below 1."""
    return float(ndtri(1.0 - scan.p_value + scan.least / 2.0).sum() / np.sqrt(len(scan.p_value)))


STATISTICS: dict[str, Statistic] = {
    "max": Statistic("highest slice score", highest, of_scores=True),
    "top_mean": Statistic("mean of the highest slice scores", top_mean, of_scores=True),
    "longest_run": Statistic("longest run of neighbouring abnormal slices", longest_run),
    "fisher": Statistic("Fisher's sum of the slices' p-values", fisher),
    "stouffer": Statistic("Stouffer's sum of the slices' p-values", stouffer),
}
