"""``metrics.tsv`` looked up: its cells, and its metrics and strata as readers would say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twinvae.reporting.text import number, span

METRICS = {
    "auroc": "AUROC",
    "auroc_matched": "matched AUROC",
    "auroc_adjusted": "adjusted AUROC",
    "partial_auroc": "partial AUROC, FPR up to 10 %",
    "sensitivity_at_specificity_95": "sensitivity at 95 % specificity",
    "sensitivity_at_specificity_99": "sensitivity at 99 % specificity",
    "average_precision": "average precision",
    "accuracy": "accuracy",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "balanced_accuracy": "balanced accuracy",
}
AUROCS = {"raw": "auroc", "matched": "auroc_matched", "adjusted": "auroc_adjusted"}
"""Kind of AUROC → its name in ``metrics.tsv``."""
_PARTS = ("size_mm2", "size_px", "position", "grade", "mixed")
THIRDS = {"first": "lowest third of brain", "middle": "middle third", "last": "highest third"}
"""Of the brain, as ``metrics.tsv`` and ``audit.json`` name them → for readers."""


def stratum_label(subset: str) -> str:
    """A subset of ``metrics.tsv`` as a reader would say it."""
    part, _, which = subset.partition(":")
    if part in ("size_mm2", "size_px"):
        low, _, high = which.partition("-")
        if part == "size_px":
            return f"tumour {int(low) + 1}–{high} px" if high else f"tumour over {low} px"
        lowest = f"{float(low):.0f}"
        return f"tumour {lowest}–{float(high):.0f} mm²" if high else f"tumour over {lowest} mm²"
    if part == "position":
        return THIRDS[which]
    return f"{'source' if part == 'mixed' else part} {which}" if which else "all"


def strata_of(metrics: pd.DataFrame, min_tumour_px: int) -> list[str]:
    """Subsets with tumour and tumour-free slices: all, then by size, position, grade, source."""
    chosen = (metrics["level"] == "slice") & (metrics["min_tumour_px"] == min_tumour_px)
    chosen &= (metrics["metric"] == "auroc") & (metrics["n_pos"] > 0) & (metrics["n_neg"] > 0)
    there = list(dict.fromkeys(metrics.loc[chosen, "subset"]))
    parts = [subset for part in _PARTS for subset in there if subset.startswith(f"{part}:")]
    return [*(["mixed"] if "mixed" in there else []), *parts]


@dataclass(frozen=True)
class Cell:
    """One metric: its value and 95 % interval (NaN when undefined), and what it rests on."""

    value: float = float("nan")
    ci_low: float = float("nan")
    ci_high: float = float("nan")
    n_pos: int = 0
    n_neg: int = 0

    @property
    def text(self) -> str:
        """The value for readers."""
        return number(self.value)

    @property
    def span(self) -> str:
        """The interval for readers; empty when there is none."""
        return span(self.ci_low, self.ci_high)

    @property
    def short(self) -> str:
        """The value with two decimals, for narrow columns."""
        return number(self.value, 2)

    @property
    def short_span(self) -> str:
        """The interval with two decimals."""
        return span(self.ci_low, self.ci_high, 2).replace(" to ", "–")

    @property
    def bracket(self) -> str:
        """The interval in brackets, to stand after the value; empty when there is none."""
        return f" (95 % interval {self.span})" if self.span else ""


def of_estimate(found: Mapping[str, Any]) -> Cell:
    """A cell of one estimate of ``audit.json``: value, ci_low and ci_high, null when unknown."""
    value, low, high = (
        float("nan") if found[key] is None else float(found[key])
        for key in ("value", "ci_low", "ci_high")
    )
    return Cell(value, low, high)


class Cells:
    """The metrics of one level and subset, by score, metric and tumour size."""

    def __init__(self, metrics: pd.DataFrame, level: str = "slice", subset: str = "mixed") -> None:
        rows = metrics[(metrics["level"] == level) & (metrics["subset"] == subset)]
        numbers = rows[["value", "ci_low", "ci_high"]].to_numpy(dtype=float)
        self._cells = {
            (str(score), str(metric), int(size)): Cell(
                float(row[0]), float(row[1]), float(row[2]), int(pos), int(neg)
            )
            for score, metric, size, row, pos, neg in zip(
                rows["score"],
                rows["metric"],
                rows["min_tumour_px"],
                numbers,
                rows["n_pos"],
                rows["n_neg"],
                strict=True,
            )
        }
        self.scores = list(dict.fromkeys(key[0] for key in self._cells))
        self.sizes = sorted({key[2] for key in self._cells})

    def get(self, score: str, metric: str, min_tumour_px: int) -> Cell:
        """The metric; an empty cell when it is not in the table."""
        return self._cells.get((score, metric, min_tumour_px), Cell())
