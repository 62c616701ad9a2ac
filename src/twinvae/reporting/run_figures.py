"""The run's plots: histograms of scores (the paper's figures 1 and 4) and training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twinvae.reporting.formatting import ordinal, score_label, threshold_varies
from twinvae.reporting.style import BLUE, INK, SKY, VERMILLION, show_nothing, styled

_BINS = 32
_BEYOND = 0.5  # per cent of slices at each end gathered in the outermost bins


def slice_groups(scores: pd.DataFrame, min_tumour_px: int, split: str = "test") -> dict[str, Any]:
    """Row masks of ``split``: healthy-source, tumour-free and tumour slices."""
    here = scores["split"] == split
    mixed = here & (scores["role"] == "mixed")
    return {
        "healthy source": here & (scores["role"] == "healthy"),
        "mixed, tumour-free": mixed & (scores["tumour_px"] <= min_tumour_px),
        "mixed, tumour": mixed & (scores["tumour_px"] > min_tumour_px),
    }


@styled
def figure_histograms(
    scores: pd.DataFrame,
    names: Sequence[str],
    calibration: Mapping[str, Any],
    min_tumour_px: int,
    split: str = "test",
) -> Figure:
    """Histograms of the scores ``names``, a panel each, with the verdicts' threshold d*.

    Each group's bars sum to 100 %; the outermost bins hold whatever lies beyond.
    """
    figure = Figure(figsize=(4.9 * max(1, len(names)), 3.5), layout="constrained")
    axes = figure.subplots(1, max(1, len(names)), squeeze=False)[0]
    groups = slice_groups(scores, min_tumour_px, split)
    for place, name in zip(axes, names, strict=False):
        _histogram(place, scores, name, groups, calibration["scores"].get(name))
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=3 if len(names) > 1 else 1)
    else:
        show_nothing(axes[0], "no score to show")
    return figure


def _histogram(
    axes: Axes,
    scores: pd.DataFrame,
    name: str,
    groups: Mapping[str, Any],
    entry: Mapping[str, Any] | None,
) -> None:
    bound = entry["slice"]["thresholds"][0] if entry else None
    shown = scores.loc[np.logical_or.reduce(list(groups.values())), name].to_numpy()
    if not len(shown):
        show_nothing(axes, "no slices to show")
        return
    low, high = np.percentile(shown, [_BEYOND, 100 - _BEYOND])
    if bound is not None:
        low, high = min(low, bound["threshold"]), max(high, bound["threshold"])
    pad = 0.03 * (high - low) or 0.5
    edges = np.linspace(low - pad, high + pad, _BINS + 1)
    looks = ((BLUE, "-", 0.14), (SKY, "--", 0.2), (VERMILLION, "-", 0.24))
    for (label, mask), (colour, line, alpha) in zip(groups.items(), looks, strict=True):
        values = np.clip(scores.loc[mask, name].to_numpy(), edges[0], edges[-1])
        share = 100 * np.histogram(values, edges)[0] / max(1, len(values))
        legend = f"{label} ({len(values):,} slices)"
        axes.stairs(share, edges, fill=True, color=colour, alpha=alpha, linewidth=0)
        axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.6, label=legend)
    axes.set(
        xlabel=f"{score_label(name)} (score of a slice, no unit)", ylabel="slices (% of group)"
    )
    axes.set_xlim(edges[0], edges[-1])
    if bound is not None:
        _mark_threshold(axes, bound, threshold_varies(entry))


def _mark_threshold(axes: Axes, bound: Mapping[str, Any], varies: bool) -> None:
    """Draw d*, its label on the side that has room; one that depends on the slice as it lies at
    median brain area.
    """
    threshold, where = bound["threshold"], " at median area" if varies else ""
    axes.margins(y=0.2)
    axes.axvline(threshold, color=INK, linestyle=(0, (4, 2)), linewidth=1.3)
    low, high = axes.get_xlim()
    left = threshold > (low + high) / 2
    axes.annotate(
        f"d* = {threshold:.3g}{where}\n{ordinal(bound['percentile'])} percentile",
        xy=(threshold, 0.985),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        fontsize=8,
    )


@styled
def figure_training(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """ELBO of training and validation slices, and KL, by epoch; a column for each model.

    ``logs``: model name → rows of its ``log.jsonl`` (keys ``epoch``, ``elbo``, ``val_elbo``,
    ``kl``; others are ignored). The first tenth of the epochs may lie below the axes.
    """
    figure = Figure(figsize=(4.9 * max(1, len(logs)), 4.8), layout="constrained")
    grid = figure.subplots(2, max(1, len(logs)), squeeze=False, sharex="col")
    for column, (title, rows) in enumerate(logs.items()):
        table = pd.DataFrame(list(rows))
        top, bottom = grid[:, column]
        top.set_title(title)
        if not len(table):
            show_nothing(top, "no training log")
            show_nothing(bottom, "")
            continue
        curves = (
            (top, "elbo", "training", BLUE, "-"),
            (top, "val_elbo", "validation", VERMILLION, "--"),
            (bottom, "kl", "training", BLUE, "-"),
        )
        for axes, key, label, colour, line in curves:
            if key in table and table[key].notna().any():
                marker = "o" if len(table) < 4 else ""
                style = {"color": colour, "linestyle": line, "marker": marker}
                axes.plot(table["epoch"], table[key].astype(float), label=label, **style)
        _focus(top, table)
        top.legend(loc="lower right")
        top.set_ylabel("ELBO (nats a slice)")
        bottom.set(xlabel="epoch", ylabel="KL (nats a slice)")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _focus(axes: Axes, table: pd.DataFrame) -> None:
    """Let the first tenth of the epochs, which starts far below, not flatten the rest."""
    keys = [key for key in ("elbo", "val_elbo") if key in table]
    late = table.iloc[max(1, len(table) // 10) :][keys].astype(float)
    if len(late) < 3 or not late.notna().any(axis=None):
        return
    low, high = float(np.nanmin(late)), float(np.nanmax(late))
    pad = 0.08 * (high - low) or 1.0
    axes.set_ylim(low - pad, high + pad)
