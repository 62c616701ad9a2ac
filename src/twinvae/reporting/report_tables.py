"""Tables of a report: the paper's Table 1 for any run, and all metrics at the headline size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from twinvae.reporting.cells import Cell, Cells
from twinvae.reporting.formatting import METRICS, score_label
from twinvae.reporting.strata import KINDS, strata_of, stratum_label
from twinvae.scoring.table import PAPER_SCORE, is_trivial

TABLE1_METRICS = ("accuracy", "f1", "auroc", "auroc_matched", "auroc_adjusted")
RANKING_METRICS = (
    "auroc",
    "auroc_matched",
    "auroc_adjusted",
    "partial_auroc",
    "sensitivity_at_specificity_95",
    "sensitivity_at_specificity_99",
    "average_precision",
)
"""What needs no threshold."""
VERDICT_METRICS = (
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "accuracy",
    "balanced_accuracy",
)
"""What verdicts at d* do."""
SUBJECT_METRICS = ("auroc", "sensitivity", "specificity", "precision", "f1", "accuracy")
PUBLISHED = {PAPER_SCORE: (0.74, 0.76, 0.74), "image_l2": (0.64, 0.62, 0.65)}
"""Accuracy, F1 and AUROC that the paper's Table 1 gives, on BRATS-2015."""


def ordered_scores(names: Iterable[str], decision_score: str) -> list[str]:
    """The decision score, the paper's, other scores, then the trivial rivals."""
    there = list(dict.fromkeys(names))
    first = [name for name in (decision_score, PAPER_SCORE) if name in there]
    rest = [name for name in there if name not in first]
    return list(dict.fromkeys([*first, *sorted(rest, key=is_trivial)]))


def table1(metrics: pd.DataFrame, decision_score: str) -> pd.DataFrame:
    """Accuracy, F1 and the three AUROCs of every score at every tumour size, with intervals.

    One row a score and size; columns ``score min_tumour_px n_pos n_neg``, then for each metric
    its value, ``_ci_low`` and ``_ci_high``.
    """
    cells = Cells(metrics)
    columns = ["score", "min_tumour_px", "n_pos", "n_neg"]
    columns += [m + end for m in TABLE1_METRICS for end in ("", "_ci_low", "_ci_high")]
    rows = []
    for name in ordered_scores(cells.scores, decision_score):
        for size in cells.sizes:
            counts = cells.get(name, "auroc", size)
            row: list[object] = [name, size, counts.n_pos, counts.n_neg]
            for metric in TABLE1_METRICS:
                cell = cells.get(name, metric, size)
                row += [cell.value, cell.ci_low, cell.ci_high]
            rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def table1_blocks(
    metrics: pd.DataFrame, names: Sequence[str], decision_score: str
) -> dict[str, Any]:
    """Table 1 for the page: tumour sizes across, the scores ``names`` down, a block a metric.

    The three AUROCs of a score stand below each other, so that none is read without the others.
    """
    cells = Cells(metrics)

    def line(label: str, name: str, metric: str) -> dict[str, Any]:
        shown = [cells.get(name, metric, size) for size in cells.sizes]
        return {"label": label, "decision": name == decision_score, "cells": shown}

    aurocs = [
        line(label, name, metric)
        for name in names
        for label, metric in (
            (score_label(name), "auroc"),
            ("… matched", "auroc_matched"),
            ("… adjusted", "auroc_adjusted"),
        )
    ]
    blocks = [{"title": "AUROC: raw, matched, adjusted", "lines": aurocs}]
    blocks += [
        {"title": title, "lines": [line(score_label(name), name, metric) for name in names]}
        for title, metric in (("Accuracy at d*", "accuracy"), ("F1 at d*", "f1"))
    ]
    counts = [cells.get(names[0], "auroc", size).n_pos for size in cells.sizes] if names else []
    return {"sizes": cells.sizes, "counts": counts, "blocks": blocks}


def slice_table(
    metrics: pd.DataFrame, chosen: Sequence[str], decision_score: str, min_tumour_px: int
) -> dict[str, Any]:
    """Every score's slice metrics ``chosen`` with intervals at one tumour size, for the page."""
    cells = Cells(metrics)
    names = ordered_scores(cells.scores, decision_score)
    return _metric_table(cells, names, chosen, min_tumour_px, decision_score)


def strata_table(
    metrics: pd.DataFrame, names: Sequence[str], min_tumour_px: int
) -> list[dict[str, Any]]:
    """The three AUROCs of the scores ``names`` in every stratum, for the page."""
    return [
        {
            "stratum": stratum_label(subset) if place == 0 else "",
            "label": score_label(name),
            "counts": cells.get(name, "auroc", min_tumour_px),
            "cells": [cells.get(name, metric, min_tumour_px) for metric in KINDS.values()],
        }
        for subset in strata_of(metrics, min_tumour_px)
        for cells in (Cells(metrics, subset=subset),)
        for place, name in enumerate(names)
    ]


def subject_table(metrics: pd.DataFrame, decision_score: str, min_tumour_px: int) -> dict[str, Any]:
    """Every score's subject metrics with intervals at one tumour size, for the page."""
    cells = Cells(metrics, level="subject")
    names = ordered_scores(cells.scores, decision_score)
    return _metric_table(cells, names, SUBJECT_METRICS, min_tumour_px, decision_score)


def _metric_table(
    cells: Cells,
    names: Sequence[str],
    chosen: Sequence[str],
    min_tumour_px: int,
    decision_score: str,
) -> dict[str, Any]:
    lines = [
        {
            "label": score_label(name),
            "decision": name == decision_score,
            "trivial": is_trivial(name),
            "cells": [cells.get(name, metric, min_tumour_px) for metric in chosen],
        }
        for name in names
    ]
    counts = cells.get(names[0], "auroc", min_tumour_px) if names else Cell()
    prevalence = cells.get(names[0], "prevalence", min_tumour_px) if names else Cell()
    return {
        "columns": [METRICS[metric] for metric in chosen],
        "lines": lines,
        "n_pos": counts.n_pos,
        "n_neg": counts.n_neg,
        "prevalence": prevalence.text,
    }
