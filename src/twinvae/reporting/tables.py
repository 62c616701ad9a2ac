"""Tables of a report: the paper's Table 1 for any run, and all metrics at the headline size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae.files import atomic_path
from twinvae.reporting.cells import Cell, Cells
from twinvae.reporting.names import METRICS, number, score_label
from twinvae.scoring.table import PAPER_SCORE, is_trivial

TABLE1_METRICS = ("accuracy", "f1", "auroc", "auroc_matched")
HEADLINE_METRICS = (
    "auroc",
    "auroc_matched",
    "average_precision",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "accuracy",
    "balanced_accuracy",
)
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
    """Accuracy, F1, AUROC and matched AUROC of every score at every tumour size, with intervals.

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


def write_table1(table: pd.DataFrame, path: Path) -> None:
    """Write ``table1`` as tab-separated text, atomically."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="", lineterminator="\n")


def table1_blocks(metrics: pd.DataFrame, decision_score: str) -> dict[str, Any]:
    """Table 1 for the page: tumour sizes across, scores down, a block for each metric.

    Raw and matched AUROC share a cell, so that neither is read without the other.
    """
    cells = Cells(metrics)
    names = ordered_scores(cells.scores, decision_score)
    shown = {
        "AUROC / matched AUROC": ("auroc", "auroc_matched"),
        "Accuracy": ("accuracy",),
        "F1": ("f1",),
    }
    blocks = [
        {
            "title": title,
            "lines": [
                {
                    "label": score_label(name),
                    "decision": name == decision_score,
                    "cells": [
                        " / ".join(number(cells.get(name, m, size).value, 2) for m in parts)
                        for size in cells.sizes
                    ],
                }
                for name in names
            ],
        }
        for title, parts in shown.items()
    ]
    counts = [cells.get(names[0], "auroc", size).n_pos for size in cells.sizes] if names else []
    return {"sizes": cells.sizes, "counts": counts, "blocks": blocks}


def headline_table(
    metrics: pd.DataFrame, decision_score: str, min_tumour_px: int
) -> dict[str, Any]:
    """Every score's slice metrics with intervals at one tumour size, for the page."""
    cells = Cells(metrics)
    names = ordered_scores(cells.scores, decision_score)
    return _metric_table(cells, names, HEADLINE_METRICS, min_tumour_px, decision_score)


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
