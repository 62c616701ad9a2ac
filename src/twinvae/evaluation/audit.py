"""``audit.json``: whether a score sees tumours, or the scanner, or the size of the brain.

For every score: how well it tells healthy-source slices from tumour-free slices of the mixed source
(0.5 is wanted: both are free of tumour), which false-positive rate its thresholds really give, by
position and by source, whether it beats the best rival that no model was trained for, and in plain
words what it mostly sees. For the slices: how far knowing which slice it is goes already, on how
many comparable tumour-free slices the adjusted figures rest, how preparation differs by source.

Null stands for what is undefined; an ESTIMATE is {value, ci_low, ci_high}::

    split, min_tumour_px, resamples, seed
    n: {healthy_slices, healthy_subjects, tumour_free_slices, tumour_free_subjects, sliver_slices}
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
                              healthy, tumour_free, sliver: ESTIMATE,
                              by_position, by_source: {healthy, tumour_free:
                                                       {NAME: ESTIMATE}}}, …]
      p_values: {healthy, tumour_free: {ks, rates: {0.01, 0.05: ESTIMATE}}}, or null
    best_trivial: raw, matched, adjusted: {score, value, ci_low, ci_high}
    comparisons: NAME (not trivial): raw, matched, adjusted:
                 {value, rival, rival_value, difference, ci_low, ci_high, p_value}

``sliver``: mixed slices with tumour pixels, but no more than ``min_tumour_px``. They count as
tumour-free everywhere but in ``false_positive_rates`` and ``p_values``, where ``tumour_free`` are
slices without a single tumour pixel: calling a sliver of tumour abnormal is no false alarm.
``source_gap_auroc`` is above 0.5 when tumour-free mixed slices score above healthy ones;
``_matched`` and ``_adjusted`` compare slices of similar brain area and position.
``difference`` is the score's AUROC less the best rival's on the same resamples of subjects; the
rival is the one that did best on these very slices, which favours the rival. ``p_value`` is
that of the clustered DeLong test, of raw AUROCs only. Intervals: see ``evaluate``; those of the
source gap draw healthy and mixed subjects separately.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.decision import Calibration
from twinvae.errors import DataError
from twinvae.evaluation.adjusted import KINDS, ThreeAurocs, metric_of
from twinvae.evaluation.confusion import FalsePositives
from twinvae.evaluation.resampling import (
    BoolArray,
    Estimate,
    fewer_subjects,
    multiplicities,
    one_blas_thread,
    stratified_multiplicities,
    summary,
)
from twinvae.evaluation.rivals import Rivals, which_slice
from twinvae.evaluation.subsets import (
    Sample,
    clean_and_slivers,
    healthy_and_tumour_free,
    known_mixed,
    sample_of,
    subject_codes,
)
from twinvae.evaluation.what_it_sees import what_it_sees
from twinvae.scoring.table import SPACING, is_trivial, score_columns

FEW_SUBJECTS = 50
"""Below this many subjects with a tumour slice, or with a tumour-free one, intervals are rough."""
FEW_NEGATIVES = 10
"""Below this median effective number of tumour-free slices, adjusted figures are doubtful."""
FEW_NEGATIVE_SUBJECTS = 5
"""The same for the effective number of subjects that these slices are of."""
ENOUGH_PLACED = 0.8
"""Below this share of tumour slices with a comparable tumour-free one, those left out matter."""

_NO_STATISTICS = ("subject", "session", "source", "role", "split")


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
    (``slices/scans.tsv``). Returns what this file's head describes. Intervals: see ``evaluate``;
    those of the source gap draw healthy and mixed subjects separately.
    """
    healthy, free = healthy_and_tumour_free(scores, split, config.headline_min_tumour_px)
    sample = sample_of(known_mixed(scores, split))
    positive = sample.positive(config.headline_min_tumour_px)
    draws = multiplicities(sample.n_subjects, config.resamples, seed)
    aurocs = ThreeAurocs(sample, positive, draws, config)
    rivals = Rivals(sample, positive, aurocs)
    gaps = _source_gaps(healthy, free, config, seed)
    clean, slivers = clean_and_slivers(free)
    rates = FalsePositives(
        healthy, clean, slivers, Calibration.of(calibration), config.resamples, seed
    )
    rests_on = support(sample, positive, aurocs)
    return {
        "split": split,
        "min_tumour_px": config.headline_min_tumour_px,
        "resamples": config.resamples,
        "seed": seed,
        "n": {
            "healthy_slices": len(healthy),
            "healthy_subjects": subject_codes(healthy)[1],
            "tumour_free_slices": len(free),
            "tumour_free_subjects": subject_codes(free)[1],
            "sliver_slices": len(slivers),
        },
        "support": rests_on,
        "warnings": warnings(rests_on),
        "which_slice": which_slice(sample, positive, draws),
        "drift": [] if scans is None else drift(scans),
        "scores": {
            name: _of_score(name, rivals.estimates[name], gaps[name], rates)
            for name in score_columns(scores)
        },
        "best_trivial": rivals.best(),
        "comparisons": rivals.comparisons(),
    }


def _of_score(
    name: str, auroc: dict[str, Estimate], gap: dict[str, Estimate], rates: FalsePositives
) -> dict[str, Any]:
    """What is said of one score; AUROCs on tumours and of the source gap by kind."""
    return {
        "trivial": is_trivial(name),
        **what_it_sees(auroc, gap),
        "auroc": auroc,
        **{f"source_gap_{metric_of(kind)}": gap[kind] for kind in KINDS},
        "false_positive_rates": rates.of(name),
        "p_values": rates.p_values(name),
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


def support(sample: Sample, positive: BoolArray, aurocs: ThreeAurocs) -> dict[str, Any]:
    """Counts behind the AUROCs.

    ``tumour_slices``, ``tumour_free_slices``, and the subjects of each; ``matched_pairs``;
    ``placed_tumour_slices``, those with a comparable tumour-free slice; and for a typical one of
    them ``adjusted_negatives`` and ``adjusted_subjects``, the effective numbers of tumour-free
    slices, and of their subjects, it is placed among (medians). ``pixel_mm2``: smallest and
    largest area of a pixel of their grids, or None where areas could be compared in pixels only.
    """
    slices, subjects = aurocs.neighbours.typical
    return {
        "tumour_slices": int(positive.sum()),
        "tumour_subjects": len(np.unique(sample.subject[positive])),
        "tumour_free_slices": int((~positive).sum()),
        "tumour_free_subjects": len(np.unique(sample.subject[~positive])),
        "matched_pairs": aurocs.pairs.count,
        "placed_tumour_slices": len(aurocs.neighbours.placed),
        "adjusted_negatives": slices,
        "adjusted_subjects": subjects,
        "pixel_mm2": sample.pixel_mm2 and list(sample.pixel_mm2),
    }


def warnings(found: Mapping[str, Any]) -> list[str]:
    """One sentence for each count of ``support`` that is too low, and for areas in pixels."""
    tumours, placed = found["tumour_slices"], found["placed_tumour_slices"]
    out = []
    for key, what in (("tumour_subjects", "a tumour"), ("tumour_free_subjects", "a tumour-free")):
        if found[key] < FEW_SUBJECTS:
            out.append(
                f"Only {found[key]} subjects have {what} slice: with fewer than {FEW_SUBJECTS}, "
                f"95 % intervals hold the truth in fewer than 95 % of cases."
            )
    if tumours and placed < ENOUGH_PLACED * tumours:
        out.append(
            f"Only {placed} of {tumours} tumour slices have a tumour-free slice of similar brain "
            f"area and position: matched and adjusted AUROCs are about those alone."
        )
    if placed and found["adjusted_negatives"] < FEW_NEGATIVES:
        out.append(
            f"A typical tumour slice has only {found['adjusted_negatives']:.1f} comparable "
            f"tumour-free slices (fewer than {FEW_NEGATIVES}): its adjusted AUROC is doubtful."
        )
    if placed and found["adjusted_subjects"] < FEW_NEGATIVE_SUBJECTS:
        out.append(
            f"The tumour-free slices that a typical tumour slice is compared with are of only "
            f"{found['adjusted_subjects']:.1f} subjects (fewer than {FEW_NEGATIVE_SUBJECTS})."
        )
    if tumours and found["pixel_mm2"] is None:
        out.append(
            f"The scores table has no column {SPACING}, so areas were compared in pixels: matched "
            f"and adjusted AUROCs, strata by size and the source gap hold only if all scans share "
            f"one in-plane grid."
        )
    return out


def drift(scans: pd.DataFrame) -> list[dict[str, Any]]:
    """Every numeric column of ``scans`` (one row a scan), source by source, largest drift first.

    ``scans``: as ``slices/scans.tsv``, with ``source`` and ``role``. Each source is held against
    the scans of all *other* healthy sources. Returns dictionaries of ``source``, ``statistic``,
    ``n``, ``n_healthy``; ``standardised_difference``, the difference of means in units of the root
    mean square of the two standard deviations (null where both are 0 or one scan is alone); and
    ``ks``, the two-sample Kolmogorov–Smirnov distance, 1 where the two do not overlap.

    Raises ``DataError`` when ``source`` or ``role`` is missing.
    """
    missing = [column for column in ("source", "role") if column not in scans.columns]
    if missing:
        raise DataError(f"scans: missing column {', '.join(missing)}")
    others = [column for column in _NO_STATISTICS if column in scans.columns]
    numbers = scans.drop(columns=others).select_dtypes("number")
    found = []
    for source in sorted(scans["source"].unique()):
        mine = (scans["source"] == source).to_numpy()
        healthy = ((scans["role"] == "healthy") & (scans["source"] != source)).to_numpy()
        for name in numbers.columns:
            values = numbers[name].to_numpy(dtype=np.float64)
            here, there = (v[np.isfinite(v)] for v in (values[mine], values[healthy]))
            if len(here) and len(there):
                found.append({"source": str(source), "statistic": str(name), **_gap(here, there)})
    return sorted(found, key=lambda row: (-row["ks"], row["source"], row["statistic"]))


def _gap(here: np.ndarray[Any, Any], there: np.ndarray[Any, Any]) -> dict[str, Any]:
    from scipy.stats import ks_2samp  # here, since it takes half a second

    alone = min(len(here), len(there)) < 2
    spread = 0.0 if alone else float(np.sqrt((here.var(ddof=1) + there.var(ddof=1)) / 2))
    return {
        "n": len(here),
        "n_healthy": len(there),
        "standardised_difference": float((here.mean() - there.mean()) / spread) if spread else None,
        "ks": float(ks_2samp(here, there).statistic),
    }
