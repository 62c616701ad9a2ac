"""Scan-level verdicts: one number for a whole scan, and its threshold from healthy scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.special import ndtri

from twinvae.config import DecisionConfig
from twinvae.decision.p_values import (
    BoolArray,
    FloatArray,
    IntArray,
    Ranks,
    conformal_cutoffs,
    percentile_cutoffs,
    require_supported,
    weights,
)
from twinvae.decision.rules import Healthy, OutOfFold
from twinvae.decision.thresholds import FittedRule
from twinvae.scoring.table import scan_key
from twinvae.vocabulary import SUBJECT_KEY


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


@dataclass(frozen=True)
class ScanGroups:
    """Which rows of a table make a scan."""

    rows: tuple[IntArray, ...]
    """For each scan, its rows in the order of their slice numbers."""
    number: FloatArray
    """Slice number of every row."""
    subject: IntArray
    """Code of each scan's subject."""

    @classmethod
    def of(cls, table: pd.DataFrame) -> Self:
        """A subject's sessions are scans of their own."""
        number = table["slice"].to_numpy(dtype=np.float64)
        scan = table.groupby(scan_key(table), sort=False).ngroup().to_numpy()
        rows = tuple(
            r[np.argsort(number[r], kind="stable")]
            for r in (np.flatnonzero(scan == code) for code in range(scan.max() + 1))
        )
        subjects = table.groupby(list(SUBJECT_KEY), sort=False).ngroup().to_numpy()
        return cls(rows, number, np.array([subjects[r[0]] for r in rows], dtype=np.int64))


def scan_part(
    fitted: FittedRule,
    unseen: OutOfFold | None,
    healthy: Healthy,
    scans: ScanGroups,
    config: DecisionConfig,
) -> dict[str, Any]:
    """For every statistic its threshold, expected rates and healthy values.

    Healthy scans are judged by slice thresholds that leave their subject out (with one subject,
    by its own). Raises ``CalibrationError`` when scans or subjects are too few.
    """
    conformal = config.scan_rule == "conformal"
    count = len(np.unique(scans.subject)) if conformal else len(scans.rows)
    what = "healthy validation " + ("subjects" if conformal else "scans") + " (scan level)"
    require_supported(config.scan_percentile, count, what, conformal=conformal)
    verdicts = unseen or _seen(fitted, healthy)
    each = [_slices(healthy.score, scans.number, verdicts, rows) for rows in scans.rows]
    return {
        name: _entry(
            np.array([statistic.compute(scan, config.top_slices) for scan in each]),
            scans.subject,
            config,
        )
        for name, statistic in STATISTICS.items()
    }


def _seen(fitted: FittedRule, healthy: Healthy) -> OutOfFold:
    """What the rule says of the very slices it learned from."""
    called = fitted.called(healthy.score, healthy.places)
    return OutOfFold(called, *fitted.p_values(healthy.score, healthy.places))


def _slices(
    score: FloatArray, number: FloatArray, verdicts: OutOfFold, rows: IntArray
) -> ScanSlices:
    return ScanSlices(
        score[rows],
        number[rows],
        verdicts.called[0, rows],
        verdicts.p_value[rows],
        verdicts.least[rows],
    )


def _entry(values: FloatArray, subject: IntArray, config: DecisionConfig) -> dict[str, Any]:
    weight, _ = weights(subject, "subject")
    codes = np.unique(subject)
    exceeding = sum(
        int((values[subject == code] >= _cutoff(values, subject, subject != code, config)).sum())
        for code in (codes if len(codes) > 1 else ())
    )
    threshold = _cutoff(values, subject, np.ones(len(values), bool), config)
    return {
        "n_scans": len(values),
        "percentile": config.scan_percentile,
        "threshold": threshold,
        "target_fpr": round((100.0 - config.scan_percentile) / 100.0, 10),
        "cross_validated_fpr": exceeding / len(values) if len(codes) > 1 else None,
        "healthy": Ranks.of(values, weight, np.array([np.nextafter(threshold, -np.inf)])).to_json(),
    }


def _cutoff(values: FloatArray, subject: IntArray, chosen: Any, config: DecisionConfig) -> float:
    """Threshold on the statistic, from the ``chosen`` scans."""
    percentiles = (config.scan_percentile,)
    if config.scan_rule == "percentile":
        return float(percentile_cutoffs(values[chosen], np.ones(chosen.sum()), percentiles)[0])
    weight, _ = weights(subject[chosen], "subject")
    return float(conformal_cutoffs(values[chosen], weight, percentiles)[0])
