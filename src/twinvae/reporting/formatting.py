"""How scores, metrics, strata and numbers are written for readers, and how ``metrics.tsv`` is
looked up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from twinvae.scoring.table import CONTEXT_SUFFIX, PAPER_SCORE, TRIVIAL_PREFIX

_SCORES = {
    PAPER_SCORE: "Latent L2 (paper)",
    "image_l2": "Image L2",
    "healthy_mean_norm": "Norm of VAE-H mean",
    "residual_local": "Local residual",
    "residual_or_mirror_local": "Residual or mirror",
    "residual_mirror_zscore_local": "Three counterparts",
}
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


def score_label(name: str) -> str:
    """A score's name as a reader would say it; trivial rivals are marked as such."""
    if name.endswith(CONTEXT_SUFFIX):
        return f"{score_label(name.removesuffix(CONTEXT_SUFFIX))} in context"
    if name.startswith(TRIVIAL_PREFIX):
        return f"Trivial: {name.removeprefix(TRIVIAL_PREFIX).replace('_', ' ')}"
    return _SCORES.get(name, name.replace("_", " "))


def number(value: object, digits: int = 3) -> str:
    """``value`` with ``digits`` decimals, or a dash when it is None or NaN."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 3) -> str:
    """``value`` with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(value: object, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage, or a dash."""
    if not isinstance(value, int | float) or math.isnan(value):
        return "–"
    return f"{100 * value:.{digits}f} %"


def span(low: object, high: object, digits: int = 3) -> str:
    """An interval, or nothing when it is not known."""
    known = [isinstance(v, int | float) and not math.isnan(v) for v in (low, high)]
    return f"{number(low, digits)} to {number(high, digits)}" if all(known) else ""


def percent_span(low: object, high: object, digits: int = 1) -> str:
    """An interval of shares as percentages, or nothing when it is not known."""
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return ""
    interval = span(100 * low, 100 * high, digits)
    return f"{interval} %" if interval else ""


def threshold_varies(entry: Mapping[str, Any] | None) -> bool:
    """Whether a calibrated score's threshold depends on the slice; ``entry``: of that score."""
    return bool(entry and entry["slice"].get("shape"))


def ordinal(percentile: float) -> str:
    """``99`` → ``99th``; ``99.5`` → ``99.5th``."""
    text = f"{percentile:g}"
    if "." in text or text[-2:] in ("11", "12", "13"):
        return f"{text}th"
    return text + {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th")


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
