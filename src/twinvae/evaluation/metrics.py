"""``metrics.tsv``: every metric of every score, with intervals over subjects.

The headline subset ``mixed`` holds tumour and tumour-free slices of the mixed source only; telling
the healthy source from the mixed one is never counted as detection (``audit`` measures it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.decision import Calibration
from twinvae.errors import DataError
from twinvae.evaluation.adjusted import ThreeAurocs, metric_of
from twinvae.evaluation.average_precision import average_precision, resampled_average_precision
from twinvae.evaluation.confusion import (
    VERDICT_METRICS,
    Verdicts,
    counts_by_subject,
    slice_verdicts,
    subject_verdicts,
)
from twinvae.evaluation.low_fpr import LOW_FPR_METRICS, low_fpr_metrics
from twinvae.evaluation.resampling import (
    BoolArray,
    FloatArray,
    fewer_subjects,
    interval,
    multiplicities,
    one_blas_thread,
    ratio,
)
from twinvae.evaluation.subsets import (
    Sample,
    by_subject,
    known_mixed,
    mixed_subsets,
    sample_of,
    strata,
)
from twinvae.evaluation.sweep import swept
from twinvae.files import write_table

METRICS_COLUMNS = (
    "split",
    "level",
    "subset",
    "min_tumour_px",
    "score",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n_pos",
    "n_neg",
    "n_subjects",
)
"""Columns of ``metrics.tsv``."""

LEVELS = ("slice", "subject")

Row = dict[str, object]
"""Some of the columns."""

_FLOATS = ("value", "ci_low", "ci_high")


@one_blas_thread()
def evaluate(
    scores: pd.DataFrame,
    calibration: Mapping[str, Any],
    config: EvaluationConfig,
    *,
    seed: int = 0,
    split: str = "test",
) -> pd.DataFrame:
    """All metrics of all scores in a checked scores table: one row a metric.

    Levels: ``slice``, and ``subject`` (its highest slice score; positive when it has a tumour
    slice). Subsets: ``mixed``, and ``mixed:SOURCE`` for each mixed source when there are several,
    at every tumour size; and the slices of each of ``strata`` at the headline size.

    Metrics: ``auroc``; ``auroc_matched`` with ``matched_pairs``, and ``auroc_adjusted`` with
    ``adjusted_negatives`` and ``adjusted_subjects`` (slices only; ``n_pos``, ``n_neg`` and
    ``n_subjects`` count those that take part; see ``adjusted``);
    ``partial_auroc``, ``sensitivity_at_specificity_95`` and ``_99`` (``low_fpr``);
    ``average_precision`` and ``prevalence``; and those of verdicts. Slice verdicts use the first
    calibrated percentile; ``sensitivity@95`` and the like are at the threshold of the further
    percentiles (here the 95th). Subject verdicts are those of the subject's scans.

    ``ci_low`` and ``ci_high``: 95 % percentile bootstrap over subjects (``interval``),
    ``config.resamples`` draws from ``seed``, the same for every score and tumour size. What is
    undefined is NaN, written as an empty cell; slices of scans without tumour mask are left out.
    """
    calibration = Calibration.of(calibration)
    found: list[Row] = []
    for subset, rows in mixed_subsets(scores, split).items():
        head = {"split": split, "subset": subset}
        whole = _Subset(rows, calibration, config, seed)
        for level in LEVELS:
            for k in config.min_tumour_px:
                found += [{**head, **row} for row in whole.rows(level, k)]
    k = config.headline_min_tumour_px
    for subset, rows in strata(known_mixed(scores, split), k, config).items():
        part = _Subset(rows, calibration, config, seed)
        found += [{"split": split, "subset": subset, **row} for row in part.rows("slice", k)]
    return pd.DataFrame(found, columns=list(METRICS_COLUMNS))


class _Subset:
    """Some mixed slices, and the draws and verdicts that all tumour sizes share."""

    def __init__(
        self, rows: pd.DataFrame, calibration: Calibration, config: EvaluationConfig, seed: int
    ) -> None:
        self._rows, self._calibration, self._config = rows, calibration, config
        slices = sample_of(rows)
        self._samples = {"slice": slices, "subject": by_subject(slices)}
        self._draws = multiplicities(slices.n_subjects, config.resamples, seed)
        self._verdicts: dict[tuple[str, str], Verdicts] = {}

    def rows(self, level: str, min_tumour_px: int) -> Iterator[Row]:
        """Every metric of every score at one level and tumour size."""
        sample = self._samples[level]
        found = _AtTumourSize(
            sample, min_tumour_px, self._draws, self._config, of_slices=level == "slice"
        )
        for name in sample.scores:
            head = {"level": level, "min_tumour_px": min_tumour_px, "score": name}
            for row in found.rows(name, self._called(level, name)):
                yield {**head, **row}

    def _called(self, level: str, name: str) -> Verdicts:
        if (level, name) not in self._verdicts:
            verdicts = slice_verdicts if level == "slice" else subject_verdicts
            self._verdicts[level, name] = verdicts(self._calibration, self._rows, name)
        return self._verdicts[level, name]


class _AtTumourSize:
    """A sample at one tumour size; what all scores share is computed once."""

    def __init__(
        self,
        sample: Sample,
        min_tumour_px: int,
        draws: FloatArray,
        config: EvaluationConfig,
        *,
        of_slices: bool,
    ) -> None:
        """``draws``: (resamples, subjects); slices have matched and adjusted AUROCs, too."""
        self._sample, self._draws = sample, draws
        self._positive = sample.positive(min_tumour_px)
        self._draws32 = draws.astype(np.float32)
        self._n_independent = fewer_subjects(self._positive, sample.subject)
        self._aurocs = ThreeAurocs(sample, self._positive, draws, config) if of_slices else None

    def rows(self, name: str, verdicts: Verdicts) -> Iterator[Row]:
        """Rows of all metrics of one score, without level, subset, size and score."""
        score, sample = self._sample.scores[name], self._sample
        people = (self._positive, sample.subject)
        once = swept(score, *people, np.ones((1, sample.n_subjects)))
        drawn = swept(score, *people, self._draws32)
        yield self._row("auroc", float(once.auroc[0]), drawn.auroc)
        if self._aurocs is not None:
            yield from self._among_similar(name, self._aurocs)
        values, resampled = low_fpr_metrics(once), low_fpr_metrics(drawn)
        for metric in LOW_FPR_METRICS:
            yield self._row(metric, float(values[metric][0]), resampled[metric])
        precision = resampled_average_precision(drawn)
        yield self._row("average_precision", average_precision(score, self._positive), precision)
        yield self._prevalence()
        for suffix, abnormal in verdicts.items():
            yield from self._of_verdicts(abnormal, suffix)

    def _among_similar(self, name: str, aurocs: ThreeAurocs) -> Iterator[Row]:
        members = {"matched": aurocs.pairs.members, "adjusted": aurocs.neighbours.members}
        for kind, found in aurocs.among_similar(name):
            row = self._row(metric_of(kind), found.value, found.draws)
            counts = dict(zip(("n_pos", "n_neg", "n_subjects"), members[kind], strict=True))
            yield {**row, **counts}
            for support, value in _support(kind, aurocs).items():
                yield {**self._row(support, value, None), **counts}

    def _prevalence(self) -> Row:
        sample = self._sample
        sizes = np.bincount(sample.subject, minlength=sample.n_subjects)
        found = np.bincount(sample.subject, weights=self._positive, minlength=sample.n_subjects)
        value = float(ratio(found.sum(), sizes.sum()))
        return self._row("prevalence", value, ratio(self._draws @ found, self._draws @ sizes))

    def _of_verdicts(self, abnormal: BoolArray | None, suffix: str) -> Iterator[Row]:
        if abnormal is None:
            for metric in VERDICT_METRICS:
                yield self._row(metric + suffix, float("nan"), None)
            return
        sample = self._sample
        counts = counts_by_subject(abnormal, self._positive, sample.subject, sample.n_subjects)
        values, resampled = counts.total().metrics(), counts.resampled(self._draws).metrics()
        for metric in VERDICT_METRICS:
            yield self._row(metric + suffix, float(values[metric]), resampled[metric])

    def _row(self, metric: str, value: float, resampled: FloatArray | None) -> Row:
        low, high = (
            (float("nan"), float("nan"))
            if resampled is None or np.isnan(value)
            else interval(resampled, self._n_independent)
        )
        n_pos = int(self._positive.sum())
        return {
            "metric": metric,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n_pos": n_pos,
            "n_neg": len(self._positive) - n_pos,
            "n_subjects": self._sample.n_subjects,
        }


def _support(kind: str, aurocs: ThreeAurocs) -> dict[str, float]:
    """What a matched or adjusted AUROC rests on."""
    if kind == "matched":
        return {"matched_pairs": float(aurocs.pairs.count)}
    if kind == "adjusted":
        slices, subjects = aurocs.neighbours.typical
        return {"adjusted_negatives": slices, "adjusted_subjects": subjects}
    return {}


def write_metrics(path: Path, metrics: pd.DataFrame) -> None:
    """Write ``metrics`` atomically as tab-separated text; NaN becomes an empty cell."""
    write_table(path, metrics)


def read_metrics(path: Path) -> pd.DataFrame:
    """Read what ``write_metrics`` wrote, exactly; ``DataError`` when it is not such a table."""
    try:
        table = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(_FLOATS, str), na_filter=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a tab-separated table, found {error}") from None
    missing = [column for column in METRICS_COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"{path}: missing column {', '.join(missing)}")
    for column in _FLOATS:  # Python's own conversion gives the very number that was written
        table[column] = [float(cell) if cell else np.nan for cell in table[column]]
    return table[list(METRICS_COLUMNS)]
