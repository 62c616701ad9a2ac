"""Looking numbers up in ``metrics.tsv``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twinvae.reporting.formatting import number, span


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
