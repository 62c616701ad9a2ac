"""From scores to verdicts, by the thresholds of a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.decision.fitted import FittedRule
from twinvae.decision.ranks import Ranks
from twinvae.decision.sample import (
    BRAIN_MM2,
    BRAIN_PX,
    BoolArray,
    FloatArray,
    Places,
    places_of,
)
from twinvae.decision.scans import STATISTICS, ScanSlices
from twinvae.errors import CalibrationError
from twinvae.scoring.table import SPACING, area_unit

Calibration = Mapping[str, Any]
"""The content of ``calibration.json``; ``calibrate`` documents it."""


@dataclass(frozen=True)
class ScanVerdict:
    """What is said of one scan, and why."""

    abnormal: bool
    """Whether the scan's statistic reaches the scan-level threshold."""
    statistic: str
    """Which number of the scan's slices that is, one of ``STATISTICS``."""
    value: float
    """The scan's statistic."""
    threshold: float
    """The scan-level threshold on it."""
    p_value: float
    """Conformal, of that statistic among those of the healthy validation scans."""
    highest: float
    """The scan's highest slice score."""
    percentile: float
    """Of the statistics of healthy validation scans; in (0, 100)."""
    target_fpr: float
    """Share of healthy scans expected to be called abnormal, in (0, 1)."""


def slice_threshold(
    calibration: Calibration, score: str | None = None, percentile: float | None = None
) -> float:
    """Threshold for slices by ``score``, by default the one that verdicts use.

    ``percentile`` picks among the calibrated ones, by default the first, which verdicts use. Where
    the threshold depends on the slice it is that of a slice of median brain area; see
    ``slice_thresholds``. Raises ``CalibrationError`` when the calibration has no such score or
    percentile.
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
) -> list[tuple[Mapping[str, Any], BoolArray]]:
    """Which of ``rows`` each calibrated threshold of ``score`` calls abnormal.

    ``rows``: a scores table (``scoring.table``) with the column ``score``, by default the one that
    verdicts use. Returns, in the calibration's order, each threshold's entry (``percentile``,
    ``threshold``, ``target_fpr``, ``cross_validated_fpr``) with one truth value a row. Raises
    ``CalibrationError`` for a score that is not calibrated, ``ValueError`` for NaN.
    """
    entry, fitted, places, values = _read(calibration, rows, score)
    return list(zip(entry["slice"]["thresholds"], fitted.called(values, places), strict=True))


def slice_thresholds(
    calibration: Calibration, rows: pd.DataFrame, score: str | None = None
) -> list[tuple[Mapping[str, Any], FloatArray]]:
    """As ``called``, but the score from which each row is abnormal; infinite where nothing is."""
    entry, fitted, places, _ = _read(calibration, rows, score)
    return list(zip(entry["slice"]["thresholds"], fitted.thresholds(places), strict=True))


def p_values(calibration: Calibration, rows: pd.DataFrame, score: str | None = None) -> FloatArray:
    """P-value of each of ``rows`` among healthy slices, (n,) in (0, 1]; arguments as ``called``.

    Under the rule of the calibration: among slices of the same bin, of scores standardised for
    brain area, counting slices or subjects; never below 1 / (N + 1), N their number.
    """
    _, fitted, places, values = _read(calibration, rows, score)
    return fitted.p_values(values, places)[0]


def abnormal_slices(scores: npt.ArrayLike, threshold: float) -> npt.NDArray[np.bool_]:
    """Which slices are called abnormal: those whose score is at least the threshold.

    ``scores``: any shape, finite. Raises ``ValueError`` for NaN, which is neither.
    """
    return _without_nan(scores) >= threshold


def scan_verdict(
    calibration: Calibration, rows: pd.DataFrame, score: str | None = None
) -> ScanVerdict:
    """The verdict on one scan from its slices, rows of a scores table as for ``called``.

    Raises ``CalibrationError`` when the calibration does not know ``score``, ``ValueError`` for
    NaN or no rows.
    """
    entry, fitted, places, values = _read(calibration, rows, score)
    if not len(values):
        raise ValueError("expected at least one slice score")
    order = np.argsort(rows["slice"].to_numpy(), kind="stable")
    p_value, least = fitted.p_values(values, places)
    scan = ScanSlices(
        values[order],
        rows["slice"].to_numpy(dtype=np.float64)[order],
        fitted.called(values, places)[0][order],
        p_value[order],
        least[order],
    )
    how = calibration["scan_rule"]
    value = STATISTICS[how["statistic"]].compute(scan, int(how["top_slices"]))
    bound = entry["scan_statistics"][how["statistic"]]
    return ScanVerdict(
        abnormal=bool(value >= bound["threshold"]),
        statistic=how["statistic"],
        value=value,
        threshold=float(bound["threshold"]),
        p_value=float(Ranks.from_json(bound["healthy"]).p_values(np.array([value]))[0]),
        highest=float(values.max()),
        percentile=float(bound["percentile"]),
        target_fpr=float(bound["target_fpr"]),
    )


def _read(
    calibration: Calibration, rows: pd.DataFrame, score: str | None
) -> tuple[Mapping[str, Any], FittedRule, Places, FloatArray]:
    name = calibration["decision_score"] if score is None else score
    entry = _entry(calibration, name)
    fitted = FittedRule.from_json(entry["slice"])
    size = calibration.get("size", BRAIN_PX)
    if size == BRAIN_PX and fitted.shape.by_area and area_unit(rows) == "mm2":
        raise CalibrationError(
            f"calibration: expected thresholds of {name} that depend on {BRAIN_MM2}, found ones "
            f"that depend on {BRAIN_PX}, which is another area on every grid; calibrate anew on a "
            f"scores table with the column {SPACING}"
        )
    places = places_of(rows, size)
    return entry, fitted, places, _without_nan(rows[name])


def _without_nan(scores: npt.ArrayLike) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("expected scores without NaN")
    return values


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
