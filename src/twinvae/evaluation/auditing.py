"""``audit.json``: whether a score sees tumours, or the scanner, or the size of the brain.

For every score: how well it tells healthy-source slices from tumour-free slices of the mixed source
(0.5 is wanted: both are free of tumour), which false-positive rate its thresholds really give, by
position and by source, whether it beats the best rival that no model was trained for, and in plain
words what it mostly sees. For the slices: how far knowing which slice it is goes already, on how
many comparable tumour-free slices the adjusted figures rest, how preparation differs by source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.decision import Calibration
from twinvae.evaluation.drift import drift
from twinvae.evaluation.estimates import Estimate, summary
from twinvae.evaluation.false_positives import FalsePositives
from twinvae.evaluation.resampling import (
    fewer_subjects,
    multiplicities,
    one_blas_thread,
    stratified_multiplicities,
)
from twinvae.evaluation.rivals import Rivals
from twinvae.evaluation.sample import Sample, healthy_and_tumour_free, known_mixed, sample_of
from twinvae.evaluation.seen import what_it_sees
from twinvae.evaluation.support import support, warnings
from twinvae.evaluation.three_aurocs import KINDS, ThreeAurocs, metric_of
from twinvae.evaluation.which_slice import which_slice
from twinvae.scoring.table import is_trivial, score_columns


@one_blas_thread()
def audit(
    scores: pd.DataFrame,
    calibration: Mapping[str, Any],
    config: EvaluationConfig,
    *,
    scans: pd.DataFrame | None = None,
    seed: int = 0,
    split: str = "test",
) -> dict[str, Any]:
    """The audit of a checked scores table at the headline tumour size, as plain data for JSON.

    ``scans``: one row a scan with ``source``, ``role`` and numbers about its preparation
    (``slices/scans.tsv``). Returns, with null for what is undefined; an ESTIMATE is
    {value, ci_low, ci_high}::

        split, min_tumour_px, resamples, seed
        n: {healthy_slices, healthy_subjects, tumour_free_slices, tumour_free_subjects}
        support: what matched and adjusted AUROCs rest on (``support``)
        warnings: [text, …]
        which_slice: {folds, value, ci_low, ci_high} (``which_slice``), or null
        drift: [{source, statistic, standardised_difference, ks, …}, …] (``drift``)
        scores: NAME:
          trivial: bool
          sees, because      the verdict and its reason (``what_it_sees``)
          auroc: {raw, matched, adjusted: ESTIMATE}
          source_gap_auroc, source_gap_auroc_matched, source_gap_auroc_adjusted: ESTIMATE
          false_positive_rates: [{percentile, threshold, target, cross_validated,
                                  healthy, tumour_free: ESTIMATE,
                                  by_position, by_source: {healthy, tumour_free:
                                                           {NAME: ESTIMATE}}}, …]
          p_values: {healthy, tumour_free: {ks, rates: {0.01, 0.05: ESTIMATE}}}, or null
        best_trivial: raw, matched, adjusted: {score, value, ci_low, ci_high}
        comparisons: NAME (not trivial): raw, matched, adjusted:
                     {value, rival, rival_value, difference, ci_low, ci_high, p_value}

    ``source_gap_auroc`` is above 0.5 when tumour-free mixed slices score above healthy ones;
    ``_matched`` and ``_adjusted`` compare slices of similar brain area and position.
    ``difference`` is the score's AUROC less the best rival's on the same resamples of subjects; the
    rival is the one that did best on these very slices, which favours the rival. ``p_value`` is
    that of the clustered DeLong test, of raw AUROCs only. Intervals: see ``evaluate``; those of the
    source gap draw healthy and mixed subjects separately.
    """
    healthy, free = healthy_and_tumour_free(scores, split, config.headline_min_tumour_px)
    rows = known_mixed(scores, split)
    sample = sample_of(rows)
    positive = sample.positive(config.headline_min_tumour_px)
    draws = multiplicities(sample.n_subjects, config.resamples, seed)
    aurocs = ThreeAurocs(sample, positive, draws, config)
    rivals = Rivals(sample, positive, aurocs)
    gaps = _source_gaps(healthy, free, config, seed)
    rates = FalsePositives(healthy, free, Calibration.of(calibration), config.resamples, seed)
    rests_on = support(sample, positive, aurocs)
    return {
        "split": split,
        "min_tumour_px": config.headline_min_tumour_px,
        "resamples": config.resamples,
        "seed": seed,
        "n": {
            "healthy_slices": len(healthy),
            "healthy_subjects": rates.n_subjects["healthy"],
            "tumour_free_slices": len(free),
            "tumour_free_subjects": rates.n_subjects["tumour_free"],
        },
        "support": rests_on,
        "warnings": warnings(rests_on),
        "which_slice": which_slice(sample, positive, draws),
        "drift": [] if scans is None else drift(scans),
        "scores": {
            name: {
                "trivial": is_trivial(name),
                **what_it_sees(rivals.estimates[name], gaps[name]),
                "auroc": rivals.estimates[name],
                **{f"source_gap_{metric_of(kind)}": gaps[name][kind] for kind in KINDS},
                "false_positive_rates": rates.of(name),
                "p_values": rates.p_values(name),
            }
            for name in score_columns(scores)
        },
        "best_trivial": rivals.best(),
        "comparisons": rivals.comparisons(),
    }


def _source_gaps(
    healthy: pd.DataFrame, free: pd.DataFrame, config: EvaluationConfig, seed: int
) -> dict[str, dict[str, Estimate]]:
    """For each score, the three AUROCs of tumour-free mixed slices against healthy ones."""
    rows = pd.concat([healthy, free])
    sample: Sample = sample_of(rows)
    mixed = (rows["role"] == "mixed").to_numpy()
    stratum = np.zeros(sample.n_subjects, dtype=np.int64)
    stratum[sample.subject[mixed]] = 1
    draws = stratified_multiplicities(stratum, config.resamples, seed)
    aurocs = ThreeAurocs(sample, mixed, draws, config)
    people = fewer_subjects(mixed, sample.subject)
    return {
        name: {kind: summary(found, people) for kind, found in aurocs.of(name)}
        for name in sample.scores
    }
