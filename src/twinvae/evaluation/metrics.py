"""``metrics.tsv``: every metric of every score, with intervals over subjects.

The headline subset ``mixed`` holds tumour and tumour-free slices of the mixed source only; telling
the healthy source from the mixed one is never counted as detection (``audit`` measures it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.decision.verdict import Calibration, abnormal_slices
from twinvae.errors import DataError
from twinvae.evaluation.auroc import MatchedPairs, Matching, match_pairs, pair_wins
from twinvae.evaluation.average_precision import average_precision, resampled_average_precision
from twinvae.evaluation.confusion import VERDICT_METRICS, counts_by_subject
from twinvae.evaluation.resampling import (
    BoolArray,
    FloatArray,
    interval,
    multiplicities,
    one_blas_thread,
    ratio,
)
from twinvae.evaluation.sample import Sample, by_subject, mixed_subsets, sample_of
from twinvae.files import atomic_path

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

_FLOATS = ("value", "ci_low", "ci_high")

Row = dict[str, object]


@one_blas_thread()
def evaluate(
    scores: pd.DataFrame,
    calibration: Calibration,
    config: EvaluationConfig,
    *,
    seed: int = 0,
    split: str = "test",
) -> pd.DataFrame:
    """All metrics of all scores in a checked scores table: one row a metric.

    Levels: ``slice``, and ``subject`` (its highest slice score; positive when it has a tumour
    slice). Subsets: ``mixed``, and ``mixed:SOURCE`` for each mixed source when there are several.
    Metrics: ``auroc``; ``auroc_matched`` and ``matched_pairs`` (slices only; ``n_pos``,
    ``n_neg``, ``n_subjects`` count those that have a partner); ``average_precision`` and
    ``prevalence``; and those of verdicts. Slice verdicts use the first calibrated percentile;
    ``sensitivity@95`` and the like are at the threshold of the further percentiles (here the
    95th). Subject verdicts use the scan-level threshold.

    ``ci_low`` and ``ci_high``: 95 % percentile bootstrap over subjects, ``config.resamples``
    draws from ``seed``, the same for every score and tumour size. What is undefined is NaN,
    written as an empty cell; slices of scans without tumour mask are left out.
    """
    rows: list[Row] = []
    matching = Matching(config.match_log_area, config.match_position)
    for subset, table in mixed_subsets(scores, split).items():
        slices = sample_of(table)
        draws = multiplicities(slices.n_subjects, config.resamples, seed)
        for level, sample in (("slice", slices), ("subject", by_subject(slices))):
            for k in config.min_tumour_px:
                head = {"split": split, "level": level, "subset": subset, "min_tumour_px": k}
                part = _Part(sample, sample.positive(k), draws, _pairs(level, sample, k, matching))
                for name in sample.scores:
                    bounds = _thresholds(calibration, name, level)
                    rows += [{**head, "score": name, **row} for row in part.rows(name, bounds)]
    return pd.DataFrame(rows, columns=list(METRICS_COLUMNS))


def write_metrics(path: Path, metrics: pd.DataFrame) -> None:
    """Write ``metrics`` atomically as tab-separated text; NaN becomes an empty cell."""
    with atomic_path(Path(path)) as temporary:
        metrics.to_csv(temporary, sep="\t", index=False, na_rep="", lineterminator="\n")


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


def _pairs(level: str, sample: Sample, k: int, matching: Matching) -> MatchedPairs | None:
    if level != "slice":
        return None
    return match_pairs(
        sample.positive(k),
        sample.subject,
        sample.n_subjects,
        sample.log_area,
        sample.position,
        matching,
    )


def _thresholds(calibration: Calibration, score: str, level: str) -> dict[str, float]:
    """Metric-name suffix of each threshold → threshold; empty suffix for the one verdicts use."""
    entry = calibration["scores"].get(score)
    if entry is None:
        return {"": float("nan")}
    if level == "subject":
        return {"": float(entry["scan"]["threshold"])}
    bounds = entry["slice"]["thresholds"]
    return {
        f"@{bound['percentile']:g}" if i else "": float(bound["threshold"])
        for i, bound in enumerate(bounds)
    }


@dataclass(frozen=True)
class _Part:
    """One level, subset and tumour size."""

    sample: Sample
    positive: BoolArray
    draws: FloatArray
    pairs: MatchedPairs | None

    def rows(self, name: str, thresholds: dict[str, float]) -> Iterator[Row]:
        """Rows of all metrics of one score, without level, subset and score."""
        score = self.sample.scores[name]
        raw = pair_wins(score, self.positive, self.sample.subject, self.sample.n_subjects)
        yield self._row("auroc", raw.auroc(), raw.resampled(self.draws))
        if self.pairs is not None:
            yield from self._matched(score, self.pairs)
        yield self._row(
            "average_precision",
            average_precision(score, self.positive),
            resampled_average_precision(score, self.positive, self.sample.subject, self.draws),
        )
        yield self._prevalence()
        for suffix, threshold in thresholds.items():
            yield from self._verdicts(score, threshold, suffix)

    def _matched(self, score: FloatArray, pairs: MatchedPairs) -> Iterator[Row]:
        wins = pairs.wins(score)
        n_pos, n_neg, n_subjects = pairs.members
        counts = {"n_pos": n_pos, "n_neg": n_neg, "n_subjects": n_subjects}
        yield {**self._row("auroc_matched", wins.auroc(), wins.resampled(self.draws)), **counts}
        yield {**self._row("matched_pairs", float(pairs.count), None), **counts}

    def _prevalence(self) -> Row:
        sizes = np.bincount(self.sample.subject, minlength=self.sample.n_subjects)
        found = np.bincount(
            self.sample.subject, weights=self.positive, minlength=self.sample.n_subjects
        )
        value = float(ratio(found.sum(), sizes.sum()))
        return self._row("prevalence", value, ratio(self.draws @ found, self.draws @ sizes))

    def _verdicts(self, score: FloatArray, threshold: float, suffix: str) -> Iterator[Row]:
        sample = self.sample
        known = not np.isnan(threshold)
        abnormal = abnormal_slices(score, threshold if known else np.inf)
        counts = counts_by_subject(abnormal, self.positive, sample.subject, sample.n_subjects)
        values, resampled = counts.total().metrics(), counts.resampled(self.draws).metrics()
        for metric in VERDICT_METRICS:
            if known:
                yield self._row(metric + suffix, float(values[metric]), resampled[metric])
            else:
                yield self._row(metric + suffix, float("nan"), None)

    def _row(self, metric: str, value: float, resampled: FloatArray | None) -> Row:
        low, high = (
            (float("nan"), float("nan"))
            if resampled is None or np.isnan(value)
            else interval(resampled, self.sample.n_subjects)
        )
        n_pos = int(self.positive.sum())
        return {
            "metric": metric,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n_pos": n_pos,
            "n_neg": len(self.positive) - n_pos,
            "n_subjects": self.sample.n_subjects,
        }
