"""Thresholds moved to a site that has unlabelled scans only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from twinvae.decision.apply import STATISTICS
from twinvae.decision.thresholds import FittedRule, FloatArray, Ranks
from twinvae.errors import CalibrationError

ASSUMES = (
    "most slices of the unlabelled scans are free of tumours, and the site changes the level and "
    "the spread of healthy scores but not the form of their distribution"
)
GUARANTEE = (
    "none: thresholds were moved by the median and the lower spread of unlabelled scans, in which "
    "tumours may hide; the error rate on this site is not known"
)


def transfer(calibration: Mapping[str, Any], site: pd.DataFrame) -> dict[str, Any]:
    """The calibration for a site, from a scores table of its unlabelled scans.

    Every score's thresholds t become m₁ + (t − m₀) d₁ / d₀: m is the median of the slice scores, d
    the median distance from it of the scores below it, of the site (1) and of the healthy
    validation slices (0). Tumours raise scores; of scores that lie below the median few are theirs,
    so that d₁ hardly changes while they are few. Scores that do not vary are only shifted.

    Raises ``CalibrationError`` when that is so of the score that verdicts use.
    """
    decision = calibration["decision_score"]
    scores = {
        name: _moved(entry, level_and_spread(site[name].to_numpy(dtype=np.float64)))
        for name, entry in calibration["scores"].items()
    }
    if not scores[decision]["transfer"]["scaled"]:
        raise CalibrationError(
            f"{decision}: expected slice scores that vary, on the site and in the healthy "
            f"validation slices, found the same below the median"
        )
    about = {"guarantee": GUARANTEE, "assumes": ASSUMES}
    return {
        **calibration,
        "rule": {**calibration["rule"], **about},
        "scan_rule": {**calibration["scan_rule"], "guarantee": GUARANTEE},
        "scores": scores,
    }


def level_and_spread(score: FloatArray) -> dict[str, float]:
    """The median, and the median distance from it of the values below it."""
    median = float(np.median(score))
    below = median - score[score < median]
    return {"median": median, "lower_spread": float(np.median(below)) if len(below) else 0.0}


def _moved(entry: Mapping[str, Any], site: Mapping[str, float]) -> dict[str, Any]:
    """One score's calibration, moved to the level and spread of the site."""
    own = entry["healthy_scores"]
    scaled = own["lower_spread"] > 0 and site["lower_spread"] > 0
    factor = site["lower_spread"] / own["lower_spread"] if scaled else 1.0
    shift = site["median"] - factor * own["median"]
    fitted = FittedRule.from_json(entry["slice"]).moved(shift, factor)
    bounds = [_bound(bound, shift, factor) for bound in entry["slice"]["thresholds"]]
    statistics = {
        name: _statistic(part, shift, factor) if STATISTICS[name].of_scores else _unknown(part)
        for name, part in entry["scan_statistics"].items()
    }
    return {
        **entry,
        "healthy_scores": dict(site),
        "transfer": {"shift": shift, "factor": factor, "scaled": scaled, "from": dict(own)},
        "slice": {"thresholds": bounds, **fitted.to_json()},
        "scan": _bound(entry["scan"], shift, factor),
        "scan_statistics": statistics,
    }


def _bound(bound: Mapping[str, Any], shift: float, factor: float) -> dict[str, Any]:
    return {**_unknown(bound), "threshold": shift + factor * bound["threshold"]}


def _statistic(part: Mapping[str, Any], shift: float, factor: float) -> dict[str, Any]:
    moved = Ranks.from_json(part["healthy"]).moved(shift, factor)
    return {**_bound(part, shift, factor), "healthy": moved.to_json()}


def _unknown(part: Mapping[str, Any]) -> dict[str, Any]:
    return {**part, "cross_validated_fpr": None}
