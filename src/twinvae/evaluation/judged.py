"""Every metric of a score on one sample at one tumour size, with intervals over its subjects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from twinvae.config import EvaluationConfig
from twinvae.evaluation.auroc import pair_wins
from twinvae.evaluation.average_precision import average_precision, resampled_average_precision
from twinvae.evaluation.confusion import VERDICT_METRICS, counts_by_subject
from twinvae.evaluation.low_fpr import LOW_FPR_METRICS, low_fpr_metrics
from twinvae.evaluation.resampling import (
    BoolArray,
    FloatArray,
    fewer_subjects,
    interval,
    ratio,
)
from twinvae.evaluation.sample import Sample
from twinvae.evaluation.three_aurocs import ThreeAurocs, metric_of
from twinvae.evaluation.verdicts import Verdicts

Row = dict[str, object]
"""Some columns of ``metrics.tsv``."""
_COUNTS = ("n_pos", "n_neg", "n_subjects")


class Judged:
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
        if self._aurocs is None:
            wins = pair_wins(score, *people, sample.n_subjects)
            yield self._row("auroc", wins.auroc(), wins.resampled(self._draws))
        else:
            yield from self._three_aurocs(name, self._aurocs)
        once = low_fpr_metrics(score, *people, np.ones((1, sample.n_subjects)))
        drawn = low_fpr_metrics(score, *people, self._draws32)
        for metric in LOW_FPR_METRICS:
            yield self._row(metric, float(once[metric][0]), drawn[metric])
        precision = resampled_average_precision(score, *people, self._draws)
        yield self._row("average_precision", average_precision(score, self._positive), precision)
        yield self._prevalence()
        for suffix, abnormal in verdicts.items():
            yield from self._of_verdicts(abnormal, suffix)

    def _three_aurocs(self, name: str, aurocs: ThreeAurocs) -> Iterator[Row]:
        members = {"matched": aurocs.pairs.members, "adjusted": aurocs.neighbours.members}
        for kind, found in aurocs.of(name):
            row = self._row(metric_of(kind), found.value, found.draws)
            counts = dict(
                zip(("n_pos", "n_neg", "n_subjects"), members.get(kind, ()), strict=False)
            )
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
