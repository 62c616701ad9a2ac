"""Scan-level thresholds: those of each of ``STATISTICS``, from healthy scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from twinvae.config import DecisionConfig
from twinvae.decision.apply import STATISTICS, ScanSlices
from twinvae.decision.cutoffs import (
    Unit,
    conformal_cutoffs,
    percentile_cutoffs,
    require_supported,
    weights,
)
from twinvae.decision.left_out import Pool
from twinvae.decision.rules import Healthy, OutOfFold
from twinvae.decision.thresholds import FittedRule, FloatArray, IntArray, Ranks
from twinvae.scoring.table import scan_key
from twinvae.vocabulary import SUBJECT_KEY


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
        rows = tuple(np.split(np.lexsort((number, scan)), np.cumsum(np.bincount(scan))[:-1]))
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
    conformal, percentiles = config.scan_rule == "conformal", (config.scan_percentile,)
    several = len(np.unique(subject)) > 1
    exceeding = 0
    if several:
        for mine, rest in Pool(values, subject, _unit(config)).leave_each_out():
            cut = rest.conformal if conformal else rest.percentiles
            exceeding += int((values[mine] >= cut(percentiles)[0]).sum())
    counting, _ = weights(subject, _unit(config))
    find = conformal_cutoffs if conformal else percentile_cutoffs
    threshold = float(find(values, counting, percentiles)[0])
    return {
        "n_scans": len(values),
        "percentile": config.scan_percentile,
        "threshold": threshold,
        "target_fpr": round((100.0 - config.scan_percentile) / 100.0, 10),
        "cross_validated_fpr": exceeding / len(values) if several else None,
        "healthy": Ranks.of(values, weight, np.array([np.nextafter(threshold, -np.inf)])).to_json(),
    }


def _unit(config: DecisionConfig) -> Unit:
    """What counts as one observation among scans' statistics."""
    return "subject" if config.scan_rule == "conformal" else "slice"
