"""Estimates with their intervals, a line each: AUROCs of strata, false-positive rates of parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinvae.reporting.metric_cells import (
    AUROCS,
    THIRDS,
    Cell,
    Cells,
    of_estimate,
    strata_of,
    stratum_label,
)
from twinvae.reporting.style import BLUE, GREEN, GREY, INK, SKY, VERMILLION, styled
from twinvae.reporting.text import ordinal, percent, score_label, wrapped


@dataclass(frozen=True)
class _Series:
    label: str
    colour: str
    marker: str
    cells: Sequence[Cell]
    """One a line; empty cells are not drawn."""


@styled
def figure_strata(
    metrics: pd.DataFrame, name: str, rivals: Mapping[str, str | None], min_tumour_px: int
) -> Figure:
    """AUROC of the score ``name`` and of the best trivial rival in every stratum, a panel a kind.

    ``rivals``: for each kind of AUROC the rival that is best over all slices.
    """
    subsets = strata_of(metrics, min_tumour_px)
    tables = [Cells(metrics, subset=subset) for subset in subsets]
    counts = [table.get(name, "auroc", min_tumour_px) for table in tables]
    figure = Figure(figsize=(9.8, 1.5 + 0.34 * len(subsets)), layout="constrained")
    panels = figure.subplots(1, len(AUROCS), sharex=True, sharey=True)
    for axes, (kind, metric) in zip(panels, AUROCS.items(), strict=True):
        looks = ((name, VERMILLION, "o"), (rivals.get(kind), GREEN, "D"))
        series = [
            _Series(wrapped(score_label(score)), colour, marker,
                    [table.get(score, metric, min_tumour_px) for table in tables])
            for score, colour, marker in looks
            if score is not None
        ]  # fmt: skip
        _forest(axes, series)
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
        axes.set(title=kind, xlabel="AUROC")
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1 - 0.8 / (1 + len(subsets))))
    labels = [
        f"{stratum_label(subset)} ({cell.n_pos:,} / {cell.n_neg:,})"
        for subset, cell in zip(subsets, counts, strict=True)
    ]
    _label_lines(panels[0], labels)
    return figure


@styled
def figure_false_positives(rate: Mapping[str, Any]) -> Figure:
    """How often one threshold calls slices without tumour abnormal: in all, by third, by source.

    ``rate``: one of ``audit.json``'s ``false_positive_rates``.
    """
    groups = {
        "healthy": ("healthy source", BLUE, "s"),
        "tumour_free": ("mixed, tumour-free", SKY, "o"),
    }
    several = [rate["by_source"][where] for where in groups if len(rate["by_source"][where]) > 1]
    sources = dict.fromkeys(key for found in several for key in found)
    lines = [("all", "", "all"), *(("by_position", key, THIRDS[key]) for key in THIRDS)]
    lines += [("by_source", key, f"source {key}") for key in sources]
    series = [
        _Series(label, colour, marker, [_rate(rate, where, *line[:2]) for line in lines])
        for where, (label, colour, marker) in groups.items()
    ]
    figure = Figure(figsize=(7.4, 1.5 + 0.36 * len(lines)), layout="constrained")
    axes = figure.subplots()
    _forest(axes, series)
    said = f"target {percent(rate['target'])} (d* at the {ordinal(rate['percentile'])} percentile)"
    axes.axvline(100 * rate["target"], color=INK, linestyle=(0, (4, 2)), linewidth=1.3, label=said)
    axes.set_xlabel("slices called abnormal (%), all of them wrongly")
    axes.set_xlim(left=0)
    _label_lines(axes, [label for _, _, label in lines])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def _rate(rate: Mapping[str, Any], where: str, part: str, key: str) -> Cell:
    found = rate[where] if part == "all" else rate[part][where].get(key)
    if found is None:
        return Cell()
    share = of_estimate(found)
    return Cell(100 * share.value, 100 * share.ci_low, 100 * share.ci_high)


def _forest(axes: Axes, series: Sequence[_Series]) -> None:
    """Draw every series, one a little below the other, the first line on top."""
    step = 0.26
    for place, one in enumerate(series):
        y = np.arange(len(one.cells)) + step * (place - (len(series) - 1) / 2)
        low, high, value = (
            np.array([getattr(cell, end) for cell in one.cells], dtype=np.float64)
            for end in ("ci_low", "ci_high", "value")
        )
        axes.hlines(y, low, high, color=one.colour, linewidth=1.6)
        axes.plot(value, y, one.marker, color=one.colour, markersize=5, label=one.label)


def _label_lines(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), list(labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)
