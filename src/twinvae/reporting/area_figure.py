"""Score against brain area, with the threshold: whether a score follows the size of the brain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinvae.decision import called, slice_thresholds
from twinvae.decision.thresholds import BRAIN_MM2, BRAIN_PX, places_of, size_column
from twinvae.evaluation.resampling import FloatArray
from twinvae.reporting.figures import slice_groups
from twinvae.reporting.names import ordinal, percent, score_label
from twinvae.reporting.style import BLUE, INK, SKY, VERMILLION, show_nothing, styled
from twinvae.scoring.table import SPACING

_COLOURS = (BLUE, SKY, VERMILLION)
_MEDIANS = 8  # of the score, over bins of equally many slices
_MM2_IN_CM2 = 100.0
_BEYOND = 0.25  # per cent of slices at each end drawn at the border


@styled
def figure_area(
    scores: pd.DataFrame,
    name: str,
    calibration: Mapping[str, Any],
    min_tumour_px: int,
    split: str = "test",
) -> Figure:
    """A panel for healthy-source, tumour-free and tumour slices each; the same threshold in all.

    Every dot is a slice, the line with squares their running median; the few slices far out are
    drawn at the border. A threshold that depends on the position too is drawn once for each of its
    bins.
    """
    figure = Figure(figsize=(9.8, 3.7), layout="constrained")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    groups = slice_groups(scores, min_tumour_px, split)
    shown = scores.loc[np.logical_or.reduce(list(groups.values()))]
    if not len(shown):
        for axes in panels:
            show_nothing(axes, "no slices to show")
        return figure
    bounds = threshold_curves(calibration, shown, name)
    drawn = [shown[name].to_numpy(), *(value for _, value in bounds)]
    low, high = _limits(drawn[0], np.concatenate(drawn[1:]) if bounds else np.empty(0))
    for axes, (label, mask), colour in zip(panels, groups.items(), _COLOURS, strict=True):
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
    panels[0].set_ylabel(f"{score_label(name)} (no unit)")
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
    low, high = np.percentile(scores, [_BEYOND, 100 - _BEYOND])
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
