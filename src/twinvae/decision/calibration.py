"""Thresholds for every score from the healthy validation slices: ``calibration.json``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from twinvae.config import DecisionConfig
from twinvae.decision.percentile import (
    METHOD,
    FloatArray,
    cross_validated_fpr,
    require_supported,
    thresholds,
)
from twinvae.errors import CalibrationError
from twinvae.scoring.table import score_columns


def calibrate(scores: pd.DataFrame, config: DecisionConfig) -> dict[str, Any]:
    """Thresholds of every score column, from slices with role healthy and split val.

    Returns plain data, ready for JSON::

        decision_score       the score verdicts use
        scores: NAME:
          rule               "percentile"
          percentile_method  how percentiles interpolate, as NumPy names it
          n_slices, n_subjects  healthy validation slices and subjects behind the thresholds
          slice: thresholds: [{percentile, threshold, target_fpr, cross_validated_fpr}, …]
          scan: {statistic: "max", n_scans, percentile, threshold, target_fpr, cross_validated_fpr}

    A slice is abnormal when its score is at least the threshold, a scan when its highest slice
    score is at least the scan threshold. ``target_fpr`` is (100 − percentile) / 100;
    ``cross_validated_fpr`` is what leave-one-subject-out finds (null with one subject).

    Raises ``CalibrationError`` when the decision score is missing, or when healthy validation
    slices or scans are too few for a percentile that was asked for.
    """
    names = score_columns(scores)
    if config.score not in names:
        raise CalibrationError(
            f"decision.score must be one of the scores {', '.join(names)}, found {config.score!r}"
        )
    chosen = (scores["role"] == "healthy") & (scores["split"] == "val")
    healthy = scores.loc[chosen]
    for percentile in config.percentiles:
        require_supported(percentile, len(healthy), "healthy validation slices")
    n_scans = int(healthy.groupby(_scan_keys(healthy), sort=False).ngroups)
    require_supported(config.scan_percentile, n_scans, "healthy validation scans (scan level)")
    slice_part = _slice_thresholds(healthy, names, config.percentiles)
    scan_part = _scan_thresholds(healthy, names, config.scan_percentile)
    n_subjects = int(healthy.groupby(["source", "subject"], sort=False).ngroups)
    return {
        "decision_score": config.score,
        "scores": {
            name: {
                "rule": "percentile",
                "percentile_method": METHOD,
                "n_slices": len(healthy),
                "n_subjects": n_subjects,
                "slice": {"thresholds": slice_part[name]},
                "scan": scan_part[name],
            }
            for name in names
        },
    }


def _scan_keys(table: pd.DataFrame) -> list[str]:
    """What tells one scan from another: a subject's sessions are scans of their own."""
    return ["source", "subject", *(c for c in ("session",) if c in table.columns)]


def _slice_thresholds(
    healthy: pd.DataFrame, names: tuple[str, ...], percentiles: tuple[float, ...]
) -> dict[str, list[dict[str, float | None]]]:
    """For each score, its thresholds in the order of ``percentiles``."""
    values = healthy[list(names)].to_numpy(dtype=np.float64)
    subjects = healthy.groupby(["source", "subject"], sort=False).ngroup().to_numpy()
    return _entries(values, subjects, names, percentiles)


def _scan_thresholds(
    healthy: pd.DataFrame, names: tuple[str, ...], percentile: float
) -> dict[str, dict[str, Any]]:
    """For each score, the percentile of the scans' highest slice scores."""
    highest = healthy.groupby(_scan_keys(healthy), sort=False)[list(names)].max()
    subjects = highest.groupby(["source", "subject"], sort=False).ngroup().to_numpy()
    entries = _entries(highest.to_numpy(dtype=np.float64), subjects, names, (percentile,))
    return {
        name: {"statistic": "max", "n_scans": len(highest), **entries[name][0]} for name in names
    }


def _entries(
    values: FloatArray, subjects: Any, names: tuple[str, ...], percentiles: tuple[float, ...]
) -> dict[str, list[dict[str, float | None]]]:
    """Thresholds with their target and cross-validated rates, for each score and percentile."""
    bounds = thresholds(values, percentiles)
    rates = cross_validated_fpr(values, subjects, percentiles)
    return {
        name: [
            {
                "percentile": float(percentile),
                "threshold": float(bounds[i, j]),
                "target_fpr": round((100.0 - percentile) / 100.0, 10),
                "cross_validated_fpr": None if np.isnan(rates[i, j]) else float(rates[i, j]),
            }
            for i, percentile in enumerate(percentiles)
        ]
        for j, name in enumerate(names)
    }
