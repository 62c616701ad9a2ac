"""From scores to verdicts, by the thresholds of a calibration. ``detect`` uses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.errors import CalibrationError

Calibration = Mapping[str, Any]
"""The content of ``calibration.json``; ``calibrate`` documents it."""


@dataclass(frozen=True)
class ScanVerdict:
    """What is said of one scan, and why."""

    abnormal: bool
    """Whether the scan's highest slice score reaches the scan-level threshold."""
    highest: float
    """The scan's highest slice score."""
    threshold: float
    """The scan-level threshold."""
    percentile: float
    """Of the highest slice scores of healthy validation scans; in (0, 100)."""
    target_fpr: float
    """Share of healthy scans expected to be called abnormal, in (0, 1)."""


def slice_threshold(
    calibration: Calibration, score: str | None = None, percentile: float | None = None
) -> float:
    """Threshold for slices by ``score``, by default the one that verdicts use.

    ``percentile`` picks among the calibrated ones, by default the first, which verdicts use.
    Raises ``CalibrationError`` when the calibration has no such score or percentile.
    """
    entries = _entry(calibration, score)["slice"]["thresholds"]
    if percentile is None:
        return float(entries[0]["threshold"])
    for entry in entries:
        if np.isclose(entry["percentile"], percentile, rtol=0, atol=1e-9):
            return float(entry["threshold"])
    there = ", ".join(f"{entry['percentile']:g}" for entry in entries)
    raise CalibrationError(
        f"calibration: expected one of the percentiles {there}, found {percentile:g}"
    )


def scan_threshold(calibration: Calibration, score: str | None = None) -> float:
    """Threshold for a scan's highest slice score, by default by the score that verdicts use."""
    return float(_entry(calibration, score)["scan"]["threshold"])


def called(
    calibration: Calibration, rows: pd.DataFrame, score: str | None = None
) -> list[tuple[Mapping[str, Any], npt.NDArray[np.bool_]]]:
    """Which of ``rows`` each calibrated threshold of ``score`` calls abnormal.

    ``rows``: a scores table (``scoring.table``) with the column ``score``, by default the one that
    verdicts use. Returns, in the calibration's order, each threshold's entry (``percentile``,
    ``threshold``, ``target_fpr``, ``cross_validated_fpr``) with one truth value a row.
    """
    name = calibration["decision_score"] if score is None else score
    entries = _entry(calibration, name)["slice"]["thresholds"]
    return [(entry, abnormal_slices(rows[name], entry["threshold"])) for entry in entries]


def abnormal_slices(scores: npt.ArrayLike, threshold: float) -> npt.NDArray[np.bool_]:
    """Which slices are called abnormal: those whose score is at least the threshold.

    ``scores``: any shape, finite. Raises ``ValueError`` for NaN, which is neither.
    """
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("expected scores without NaN")
    return values >= threshold


def scan_verdict(
    calibration: Calibration, slice_scores: npt.ArrayLike, score: str | None = None
) -> ScanVerdict:
    """The verdict on one scan from the scores of its slices (one-dimensional, not empty).

    Raises ``CalibrationError`` when the calibration does not know ``score``.
    """
    values = np.asarray(slice_scores, dtype=np.float64)
    if values.size == 0 or np.isnan(values).any():
        raise ValueError("expected at least one slice score and no NaN")
    scan = _entry(calibration, score)["scan"]
    highest, threshold = float(values.max()), float(scan["threshold"])
    return ScanVerdict(
        abnormal=highest >= threshold,
        highest=highest,
        threshold=threshold,
        percentile=float(scan["percentile"]),
        target_fpr=float(scan["target_fpr"]),
    )


def _entry(calibration: Calibration, score: str | None) -> Mapping[str, Any]:
    name = calibration["decision_score"] if score is None else score
    try:
        entry: Mapping[str, Any] = calibration["scores"][name]
    except KeyError:
        there = ", ".join(calibration["scores"])
        raise CalibrationError(
            f"calibration: expected one of the scores {there}, found {name!r}"
        ) from None
    return entry
