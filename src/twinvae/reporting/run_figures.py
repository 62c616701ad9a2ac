"""A run's plots: histograms of scores (the paper's figures 1 and 4), scores against brain
area, which tell whether a score follows the size of the brain, and training curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twinvae.decision import called, slice_thresholds
from twinvae.decision.thresholds import BRAIN_MM2, BRAIN_PX, places_of, size_column
from twinvae.evaluation.resampling import FloatArray
from twinvae.reporting.style import BLUE, GREY, INK, SKY, VERMILLION, show_nothing, styled
from twinvae.reporting.text import ordinal, percent, score_label, wrapped
from twinvae.reporting.wording import threshold_varies
from twinvae.scoring.table import SPACING

_BINS = 32
_GATHERED = 0.5  # per cent of slices at each end, in the outermost bins of a histogram
_MEDIANS = 8  # of the score, over bins of equally many slices
_MM2_IN_CM2 = 100.0
_AT_BORDER = 0.25  # per cent of slices at each end, drawn at the border of a plot against area


def slice_groups(scores: pd.DataFrame, min_tumour_px: int) -> dict[str, Any]:
    """Row masks of test slices: healthy-source, tumour-free and tumour slices.

    Slices of 1 to ``min_tumour_px`` tumour pixels are a group of their own, where there are any.
    """
    here = scores["split"] == "test"
    mixed = here & (scores["role"] == "mixed")
    few = mixed & (scores["tumour_px"] > 0) & (scores["tumour_px"] <= min_tumour_px)
    return {
        "healthy source": here & (scores["role"] == "healthy"),
        "mixed, tumour-free": mixed & (scores["tumour_px"] == 0),
        **({f"mixed, 1 to {min_tumour_px} tumour pixels": few} if few.any() else {}),
        "mixed, tumour": mixed & (scores["tumour_px"] > min_tumour_px),
    }


def _looks(groups: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Colour, line and opacity of each of ``slice_groups``."""
    few = [(GREY, ":", 0.1)] if len(groups) > 3 else []
    return [(BLUE, "-", 0.14), (SKY, "--", 0.2), *few, (VERMILLION, "-", 0.24)]


@styled
def figure_histograms(
    scores: pd.DataFrame,
    names: Sequence[str],
    calibration: Mapping[str, Any],
    min_tumour_px: int,
) -> Figure:
    """Histograms of the scores ``names``, a panel each, with the verdicts' threshold d*.

    Each group's bars sum to 100 %; the outermost bins hold whatever lies beyond.
    """
    figure = Figure(figsize=(4.9 * max(1, len(names)), 3.5), layout="constrained")
    axes = figure.subplots(1, max(1, len(names)), squeeze=False)[0]
    groups = slice_groups(scores, min_tumour_px)
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
    low, high = np.percentile(shown, [_GATHERED, 100 - _GATHERED])
    if bound is not None:
        low, high = min(low, bound["threshold"]), max(high, bound["threshold"])
    pad = 0.03 * (high - low) or 0.5
    edges = np.linspace(low - pad, high + pad, _BINS + 1)
    for (label, mask), (colour, line, alpha) in zip(groups.items(), _looks(groups), strict=True):
        values = np.clip(scores.loc[mask, name].to_numpy(), edges[0], edges[-1])
        share = 100 * np.histogram(values, edges)[0] / max(1, len(values))
        legend = f"{label} ({len(values):,} slices)"
        axes.stairs(share, edges, fill=True, color=colour, alpha=alpha, linewidth=0)
        axes.stairs(share, edges, color=colour, linestyle=line, linewidth=1.6, label=legend)
    axes.set(
        xlabel=f"{score_label(name)}\n(score of a slice, no unit)", ylabel="slices (% of group)"
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
def figure_area(
    scores: pd.DataFrame,
    name: str,
    calibration: Mapping[str, Any],
    min_tumour_px: int,
) -> Figure:
    """A panel for each of ``slice_groups``; the same threshold in all.

    Every dot is a slice, the line with squares their running median; the few slices far out are
    drawn at the border. A threshold that depends on the position too is drawn once for each of its
    bins.
    """
    groups = slice_groups(scores, min_tumour_px)
    figure = Figure(figsize=(0.5 + 3.1 * len(groups), 3.7), layout="constrained")
    panels = figure.subplots(1, len(groups), sharex=True, sharey=True)
    shown = scores.loc[np.logical_or.reduce(list(groups.values()))]
    if not len(shown):
        for axes in panels:
            show_nothing(axes, "no slices to show")
        return figure
    bounds = threshold_curves(calibration, shown, name)
    drawn = [shown[name].to_numpy(), *(value for _, value in bounds)]
    low, high = _limits(drawn[0], np.concatenate(drawn[1:]) if bounds else np.empty(0))
    looks = _looks(groups)
    for axes, (label, mask), (colour, *_) in zip(panels, groups.items(), looks, strict=True):
        rows = scores.loc[mask]
        size, unit = _area(calibration, rows)
        axes.scatter(
            size, rows[name].clip(low, high), s=7, color=colour, alpha=0.45, linewidths=0,
            rasterized=True,
        )  # fmt: skip
        axes.plot(*_running_median(size, rows[name].to_numpy()), "s-", color=colour, markersize=4,
                  markeredgecolor=INK, markeredgewidth=0.6, linewidth=1.2)  # fmt: skip
        _draw_thresholds(axes, bounds, calibration, name)
        axes.set_title(f"{label}\n{_called(calibration, rows, name)}", fontsize=9)
        axes.set(xlabel=f"brain area of the slice ({unit})", ylim=(low, high))
    panels[0].set_ylabel(f"{wrapped(score_label(name))}\n(no unit)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center")
    return figure


def threshold_curves(
    calibration: Mapping[str, Any], rows: pd.DataFrame, name: str
) -> list[tuple[FloatArray, FloatArray]]:
    """The verdicts' threshold as a function of brain area: curves of (area, score), one at least.

    Areas run over those of ``rows``, in the unit that figures use; more than one curve where the
    threshold also depends on the position. NaN where nothing would be called abnormal. Empty
    without a calibration of the score ``name``.
    """
    if name not in calibration["scores"]:
        return []
    column = _column(calibration, rows)
    there = places_of(rows, column).size
    sizes = np.linspace(there.min(), there.max(), 400)
    positions = np.linspace(0, 1, 101)
    tiled = np.tile(sizes, len(positions))
    made_up = pd.DataFrame({column: tiled, "position": positions.repeat(len(sizes)), name: 0.0})
    if column == BRAIN_MM2:
        made_up[BRAIN_PX], made_up[SPACING] = tiled, 1.0  # pixels of 1 mm²
    bound = slice_thresholds(calibration, made_up, name)[0][1]
    curves = np.unique(bound.reshape(len(positions), len(sizes)), axis=0)
    area = sizes * _per_unit(column)[0]
    return [(area, np.where(np.isfinite(curve), curve, np.nan)) for curve in curves]


def _column(calibration: Mapping[str, Any], rows: pd.DataFrame) -> str:
    """What areas are drawn by: what thresholds depend on, else what the rows have."""
    size = str(calibration.get("size", BRAIN_PX))
    return size_column(rows) if size == BRAIN_PX else size


def _per_unit(column: str) -> tuple[float, str]:
    return (1.0, "pixels") if column == BRAIN_PX else (1 / _MM2_IN_CM2, "cm²")


def _area(calibration: Mapping[str, Any], rows: pd.DataFrame) -> tuple[FloatArray, str]:
    column = _column(calibration, rows)
    factor, unit = _per_unit(column)
    return places_of(rows, column).size * factor, unit


def _limits(scores: FloatArray, bounds: FloatArray) -> tuple[float, float]:
    low, high = np.percentile(scores, [_AT_BORDER, 100 - _AT_BORDER])
    known = bounds[np.isfinite(bounds)]
    low, high = min([low, *known]), max([high, *known])
    pad = 0.06 * (high - low) or 0.5
    return float(low - pad), float(high + pad)


def _running_median(size: FloatArray, score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Median area and median score of bins of equally many slices, by area."""
    parts = np.array_split(np.argsort(size, kind="stable"), min(_MEDIANS, max(1, len(size) // 5)))
    parts = [part for part in parts if len(part)]
    return (
        np.array([np.median(size[part]) for part in parts]),
        np.array([np.median(score[part]) for part in parts]),
    )


def _draw_thresholds(
    axes: Axes, bounds: list[tuple[FloatArray, FloatArray]], calibration: Mapping[str, Any],
    name: str,
) -> None:  # fmt: skip
    for place, (area, value) in enumerate(bounds):
        entry = calibration["scores"][name]["slice"]["thresholds"][0]
        several = ", one line for each bin of position" if len(bounds) > 1 else ""
        label = f"d*, {ordinal(entry['percentile'])} percentile of healthy validation{several}"
        axes.plot(area, value, color=INK, linestyle=(0, (4, 2)), linewidth=1.3,
                  label=None if place else label)  # fmt: skip


def _called(calibration: Mapping[str, Any], rows: pd.DataFrame, name: str) -> str:
    if name not in calibration["scores"] or not len(rows):
        return f"{len(rows):,} slices"
    share = called(calibration, rows, name)[0][1].mean()
    return f"{percent(float(share))} of {len(rows):,} slices called abnormal"


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
