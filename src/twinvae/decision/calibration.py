"""Thresholds for every score from the healthy validation slices: ``calibration.json``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from twinvae.config import DecisionConfig
from twinvae.decision.apply import STATISTICS
from twinvae.decision.cutoffs import METHOD, highest_supported, require_supported
from twinvae.decision.rules import (
    RULES,
    Healthy,
    OutOfFold,
    Rule,
    fit_rule,
    leave_one_out,
    unit_of,
)
from twinvae.decision.scan_level import ScanGroups, scan_part
from twinvae.decision.thresholds import FittedRule, places_of, size_column
from twinvae.decision.transfer import level_and_spread
from twinvae.errors import CalibrationError
from twinvae.scoring.table import score_columns
from twinvae.vocabulary import SUBJECT_KEY

OWN = {"kind": "run", "says": "Thresholds were set on the run's own healthy validation scans."}
"""The origin of thresholds, unless a site set its own (``transfer.py``)."""


def calibrate(scores: pd.DataFrame, config: DecisionConfig) -> dict[str, Any]:
    """Thresholds of every score column, from slices with role healthy and split val.

    Returns plain data, ready for JSON; applying it needs NumPy only (``apply.py``)::

        decision_score       the score verdicts use
        rule                 name, unit, summary, guarantee, assumes, source
        scan_rule            statistic verdicts use, rule, top_slices, guarantee
        origin               the scans behind the thresholds, in words
        lowered              what was asked for and what is held instead, in words; only where
                             ``decision.too_few`` is `lower` and they differ
        fdr                  level and method for the slices of one scan
        size                 what tells a slice's brain area: brain_mm2, or brain_px where the
                             table has no spacing_mm
        scores: NAME:
          rule, percentile_method  names; how percentiles interpolate, as NumPy names it
          n_slices, n_subjects     healthy validation slices and subjects behind the thresholds
          healthy_scores     median and lower_spread of the healthy scores (``transfer.py``)
          slice: thresholds: [{percentile, threshold, target_fpr, cross_validated_fpr}, …]
                 shape, cutoffs, healthy: the rule as fitted (``thresholds.py``)
          scan: {statistic: "max", n_scans, percentile, threshold, target_fpr, cross_validated_fpr}
          scan_statistics: NAME: the same and healthy, for each way to see a scan as a number

    A slice is abnormal when its score is at least the threshold, a scan when its statistic is at
    least the scan threshold. Where a slice's threshold depends on the slice, ``threshold`` is the
    one at the median brain area and position. ``target_fpr`` is (100 − percentile) / 100;
    ``cross_validated_fpr`` is what leave-one-subject-out finds (null with one subject).

    Raises ``CalibrationError`` when the decision score is missing, or when healthy validation
    slices, subjects or scans are too few for a percentile that was asked for (with
    ``decision.too_few`` `lower`: for any).
    """
    names = score_columns(scores)
    if config.score not in names:
        raise CalibrationError(
            f"decision.score must be one of the scores {', '.join(names)}, found {config.score!r}"
        )
    rule, size = RULES[config.rule], size_column(scores)
    chosen = (scores["role"] == "healthy") & (scores["split"] == "val")
    healthy = scores.loc[chosen]
    if healthy.empty:
        require_supported(config.percentiles[0], 0, "healthy validation slices")
    scans = ScanGroups.of(healthy)
    lowered = ""
    if config.too_few == "lower":
        config, lowered = _held(config, rule, healthy, scans)
    return {
        "decision_score": config.score,
        "rule": _about(rule, config),
        "scan_rule": _about_scans(config),
        "origin": OWN,
        **({"lowered": lowered} if lowered else {}),
        "fdr": {"level": config.fdr, "method": config.fdr_method},
        "size": size,
        "scores": {
            name: _score_part(rule, _healthy(healthy, name, size), scans, config) for name in names
        },
    }


def _held(
    config: DecisionConfig, rule: Rule, healthy: pd.DataFrame, scans: ScanGroups
) -> tuple[DecisionConfig, str]:
    """The percentiles that so few subjects support, and what to say of it; empty if all are."""
    subjects = len(healthy.groupby(list(SUBJECT_KEY)))
    slices = len(healthy) if unit_of(rule, config) == "slice" else subjects
    highest = highest_supported(slices, conformal=rule.conformal)
    by_scan = config.scan_rule == "conformal"
    of_scans = highest_supported(subjects if by_scan else len(scans.rows), conformal=by_scan)
    if not highest or not of_scans:
        return config, ""  # what comes next says that they support none
    percentiles = tuple(dict.fromkeys(min(p, highest) for p in config.percentiles))
    scan = min(config.scan_percentile, of_scans)
    if (percentiles, scan) == (config.percentiles, config.scan_percentile):
        return config, ""
    slices_rate, slices_asked, scans_rate, scans_asked = (
        f"{100 - p:.3g} %"
        for p in (percentiles[0], config.percentiles[0], scan, config.scan_percentile)
    )
    said = (
        f"Thresholds rest on {subjects} healthy subjects, too few for what was asked: "
        f"{slices_rate} of healthy slices may be called abnormal (asked: {slices_asked}), and "
        f"{scans_rate} of healthy scans (asked: {scans_asked})."
    )
    return config.model_copy(update={"percentiles": percentiles, "scan_percentile": scan}), said


def _about(rule: Rule, config: DecisionConfig) -> dict[str, str]:
    names = ("name", "summary", "guarantee", "assumes", "source")
    return {**{name: getattr(rule, name) for name in names}, "unit": unit_of(rule, config)}


def _about_scans(config: DecisionConfig) -> dict[str, Any]:
    statistic = STATISTICS[config.scan_statistic]
    promise = (
        "none in finite samples; the share of healthy scans at or above the threshold tends to "
        "the target with many healthy scans"
        if config.scan_rule == "percentile"
        else "a new healthy scan, exchangeable with the healthy validation scans, is called "
        "abnormal with at most the target probability, on average over calibrations"
        + ("" if statistic.of_scores else "; nearly, since healthy scans are judged by others")
    )
    return {
        "statistic": config.scan_statistic,
        "summary": statistic.summary,
        "rule": config.scan_rule,
        "top_slices": config.top_slices,
        "guarantee": promise,
    }


def _healthy(table: pd.DataFrame, name: str, size: str) -> Healthy:
    subjects = table.groupby(list(SUBJECT_KEY), sort=False).ngroup().to_numpy()
    return Healthy(
        table[name].to_numpy(dtype=np.float64), places_of(table, size), subjects.astype(np.int64)
    )


def _score_part(
    rule: Rule, healthy: Healthy, scans: ScanGroups, config: DecisionConfig
) -> dict[str, Any]:
    """The calibration of one score."""
    fitted = fit_rule(rule, healthy, config, check=True)
    unseen = leave_one_out(rule, healthy, config)
    statistics = scan_part(fitted, unseen, healthy, scans, config)
    plain = {key: value for key, value in statistics["max"].items() if key != "healthy"}
    return {
        "rule": rule.name,
        **({} if rule.conformal else {"percentile_method": METHOD}),
        "n_slices": len(healthy.score),
        "n_subjects": len(np.unique(healthy.subject)),
        "healthy_scores": level_and_spread(healthy.score),
        "slice": {"thresholds": _thresholds(fitted, unseen, healthy, config), **fitted.to_json()},
        "scan": {"statistic": "max", **plain},
        "scan_statistics": statistics,
    }


def _thresholds(
    fitted: FittedRule, unseen: OutOfFold | None, healthy: Healthy, config: DecisionConfig
) -> list[dict[str, float | None]]:
    typical = fitted.thresholds(healthy.places.typical())[:, 0]
    return [
        {
            "percentile": float(percentile),
            "threshold": float(typical[i]),
            "target_fpr": round((100.0 - percentile) / 100.0, 10),
            "cross_validated_fpr": None if unseen is None else float(unseen.called[i].mean()),
        }
        for i, percentile in enumerate(config.percentiles)
    ]
