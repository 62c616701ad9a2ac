"""``audit.json``: whether a score sees tumours, or the scanner, or the size of the brain.

Three questions, for every score: how well it tells healthy-source slices from tumour-free slices of
the mixed source (0.5 is wanted: both are free of tumour), which false-positive rate its thresholds
really give on both, and whether it beats the best rival that no model was trained for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.decision.verdict import Calibration, abnormal_slices
from twinvae.evaluation.auroc import Matching, PairWins, match_pairs, pair_wins
from twinvae.evaluation.resampling import (
    FloatArray,
    interval,
    multiplicities,
    one_blas_thread,
    ratio,
    stratified_multiplicities,
)
from twinvae.evaluation.sample import Sample, healthy_and_tumour_free, known_mixed, sample_of
from twinvae.scoring.table import is_trivial, score_columns


@one_blas_thread()
def audit(
    scores: pd.DataFrame,
    calibration: Calibration,
    config: EvaluationConfig,
    *,
    seed: int = 0,
    split: str = "test",
) -> dict[str, Any]:
    """The audit of a checked scores table at the headline tumour size, as plain data for JSON.

    Returns, with null for what is undefined::

        split, min_tumour_px, resamples, seed
        n: {healthy_slices, healthy_subjects, tumour_free_slices, tumour_free_subjects}
        scores: NAME:
          trivial: bool
          source_gap_auroc, source_gap_auroc_matched: {value, ci_low, ci_high}
          false_positive_rates: [{percentile, threshold, target, cross_validated,
                                  healthy, tumour_free: {value, ci_low, ci_high}}, …]
        best_trivial: raw, matched: {score, value, ci_low, ci_high}
        comparisons: NAME (not trivial): raw, matched:
                     {value, rival, rival_value, difference, ci_low, ci_high}

    ``source_gap_auroc`` is above 0.5 when tumour-free mixed slices score above healthy ones;
    ``_matched`` compares slices of similar brain area and position only. ``difference`` is the
    score's AUROC less the best rival's on the same resamples of subjects; the rival is the one
    that did best on these very slices, which favours the rival. Intervals: see ``evaluate``;
    those of the source gap draw healthy and mixed subjects separately.
    """
    best, comparisons = _rivals(scores, config, seed, split)
    healthy, free = healthy_and_tumour_free(scores, split, config.headline_min_tumour_px)
    gaps = _source_gaps(healthy, free, config, seed)
    rates = {
        "healthy": _Rates(sample_of(healthy), config.resamples, seed),
        "tumour_free": _Rates(sample_of(free), config.resamples, seed),
    }
    return {
        "split": split,
        "min_tumour_px": config.headline_min_tumour_px,
        "resamples": config.resamples,
        "seed": seed,
        "n": {
            "healthy_slices": len(healthy),
            "healthy_subjects": rates["healthy"].sample.n_subjects,
            "tumour_free_slices": len(free),
            "tumour_free_subjects": rates["tumour_free"].sample.n_subjects,
        },
        "scores": {
            name: {
                "trivial": is_trivial(name),
                **gaps[name],
                "false_positive_rates": _false_positive_rates(name, calibration, rates),
            }
            for name in score_columns(scores)
        },
        "best_trivial": best,
        "comparisons": comparisons,
    }


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _estimate(value: float, resampled: FloatArray, n_subjects: int) -> dict[str, float | None]:
    low, high = (np.nan, np.nan) if np.isnan(value) else interval(resampled, n_subjects)
    return {"value": _null(value), "ci_low": _null(low), "ci_high": _null(high)}


def _wins(
    sample: Sample, positive: Any, config: EvaluationConfig
) -> dict[str, dict[str, PairWins]]:
    """For ``raw`` and ``matched`` pairs, the wins of every score."""
    people = (sample.subject, sample.n_subjects)
    matching = Matching(config.match_log_area, config.match_position)
    pairs = match_pairs(positive, *people, sample.log_area, sample.position, matching)
    return {
        "raw": {n: pair_wins(values, positive, *people) for n, values in sample.scores.items()},
        "matched": {n: pairs.wins(values) for n, values in sample.scores.items()},
    }


def _source_gaps(
    healthy: pd.DataFrame, free: pd.DataFrame, config: EvaluationConfig, seed: int
) -> dict[str, dict[str, Any]]:
    """For each score, the AUROC of tumour-free mixed slices against healthy ones."""
    rows = pd.concat([healthy, free])
    sample = sample_of(rows)
    mixed = (rows["role"] == "mixed").to_numpy()
    stratum = np.zeros(sample.n_subjects, dtype=np.int64)
    stratum[sample.subject[mixed]] = 1
    draws = stratified_multiplicities(stratum, config.resamples, seed)
    wins = _wins(sample, mixed, config)
    return {
        name: {
            key: _estimate(one[name].auroc(), one[name].resampled(draws), sample.n_subjects)
            for key, one in (
                ("source_gap_auroc", wins["raw"]),
                ("source_gap_auroc_matched", wins["matched"]),
            )
        }
        for name in sample.scores
    }


class _Rates:
    """Shares of a sample's slices at or above thresholds, with their intervals."""

    def __init__(self, sample: Sample, resamples: int, seed: int) -> None:
        self.sample = sample
        self._draws = multiplicities(sample.n_subjects, resamples, seed)
        self._sizes = np.bincount(sample.subject, minlength=sample.n_subjects)

    def above(self, score: str, threshold: float) -> dict[str, float | None]:
        """Share of slices whose ``score`` is at least ``threshold``."""
        called = abnormal_slices(self.sample.scores[score], threshold)
        by_subject = np.bincount(
            self.sample.subject, weights=called, minlength=self.sample.n_subjects
        )
        value = float(ratio(by_subject.sum(), self._sizes.sum()))
        resampled = ratio(self._draws @ by_subject, self._draws @ self._sizes)
        return _estimate(value, resampled, self.sample.n_subjects)


def _false_positive_rates(
    name: str, calibration: Calibration, rates: dict[str, _Rates]
) -> list[dict[str, Any]]:
    """What each calibrated threshold of a score gives; empty for a score without calibration."""
    entry = calibration["scores"].get(name)
    return [
        {
            "percentile": bound["percentile"],
            "threshold": bound["threshold"],
            "target": bound["target_fpr"],
            "cross_validated": bound["cross_validated_fpr"],
            **{where: rate.above(name, bound["threshold"]) for where, rate in rates.items()},
        }
        for bound in (entry["slice"]["thresholds"] if entry else [])
    ]


def _rivals(
    scores: pd.DataFrame, config: EvaluationConfig, seed: int, split: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best trivial rival, raw and matched, and every other score's lead over it."""
    sample = sample_of(known_mixed(scores, split))
    draws = multiplicities(sample.n_subjects, config.resamples, seed)
    wins = _wins(sample, sample.positive(config.headline_min_tumour_px), config)
    best: dict[str, Any] = {}
    comparisons: dict[str, Any] = {n: {} for n in sample.scores if not is_trivial(n)}
    for kind, one in wins.items():
        values = {n: w.auroc() for n, w in one.items() if is_trivial(n)}
        defined = {n: value for n, value in values.items() if not np.isnan(value)}
        rival = max(defined, key=lambda n: defined[n]) if defined else None
        best[kind] = None
        if rival is not None:
            theirs = one[rival].resampled(draws)
            best[kind] = {
                "score": rival,
                **_estimate(one[rival].auroc(), theirs, sample.n_subjects),
            }
        for name, entry in comparisons.items():
            entry[kind] = None
            if rival is not None:
                gap = one[name].auroc() - one[rival].auroc()
                lead = _estimate(gap, one[name].resampled(draws) - theirs, sample.n_subjects)
                entry[kind] = {
                    "value": _null(one[name].auroc()),
                    "rival": rival,
                    "rival_value": _null(one[rival].auroc()),
                    "difference": lead["value"],
                    "ci_low": lead["ci_low"],
                    "ci_high": lead["ci_high"],
                }
    return best, comparisons
