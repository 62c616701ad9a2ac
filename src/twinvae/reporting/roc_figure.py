"""The figure of ROC curves: raw beside adjusted, so that neither is read without the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinvae.config import EvaluationConfig
from twinvae.decision import called
from twinvae.evaluation.subsets import known_mixed
from twinvae.reporting.names import number, score_label, span
from twinvae.reporting.roc import GRID, RocCurve, RocCurves
from twinvae.reporting.style import BLUE, GREEN, GREY, VERMILLION, show_nothing, styled
from twinvae.scoring.table import is_trivial

_PANELS = {
    "raw": ("Over all slices", "false-positive rate"),
    "adjusted": (
        "Adjusted for brain area and position",
        "false-positive rate among slices of the same area and position",
    ),
}


@styled
def figure_roc(
    scores: pd.DataFrame,
    names: Mapping[str, Sequence[str]],
    calibration: Mapping[str, Any],
    audit: Mapping[str, Any],
    options: EvaluationConfig,
) -> Figure:
    """Tumour against tumour-free slices of the mixed sources: curves, bands, verdicts as dots.

    ``names``: for ``raw`` and ``adjusted`` the scores to draw, at most three, the one that verdicts
    use first. ``audit``: content of ``audit.json``, for tumour size, seed and AUROCs.
    """
    figure = Figure(figsize=(9.8, 6.1), layout="constrained")
    panels = dict(zip(_PANELS, figure.subplots(1, 2), strict=True))
    rows = known_mixed(scores, audit["split"])
    positive = (rows["tumour_px"] > audit["min_tumour_px"]).to_numpy()
    if not positive.any() or positive.all():
        for axes in panels.values():
            show_nothing(axes, "needs tumour and tumour-free slices")
        return figure
    curves = RocCurves(rows, audit["min_tumour_px"], options, audit["seed"])
    for kind, axes in panels.items():
        for name in names[kind]:
            colour, line = _look(name, first=name == names[kind][0])
            curve = curves.raw(name) if kind == "raw" else curves.adjusted(name)
            if curve is not None:
                label = _label(name, audit["scores"][name]["auroc"][kind])
                _draw(axes, curve, label, colour, line)
            if kind == "raw" and name in calibration["scores"]:
                abnormal = called(calibration, rows, name)[0][1]
                _dot(axes, abnormal, positive, colour)
        _finish(axes, kind)
    return figure


def _look(name: str, *, first: bool) -> tuple[str, str]:
    """Colour and line: of the score that verdicts use, of a trivial rival, or of another."""
    if first:
        return VERMILLION, "-"
    return (GREEN, "--") if is_trivial(name) else (BLUE, "-.")


def _label(name: str, found: Mapping[str, Any]) -> str:
    interval = span(found["ci_low"], found["ci_high"], 2).replace(" to ", "–")
    return f"{score_label(name)}: {number(found['value'], 2)}" + (f" ({interval})" * bool(interval))


def _draw(axes: Axes, curve: RocCurve, label: str, colour: str, line: str) -> None:
    axes.fill_between(GRID, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(curve.wrong, curve.found, color=colour, linestyle=line, label=label)


def _dot(axes: Axes, abnormal: Any, positive: Any, colour: str) -> None:
    place = np.mean(abnormal[~positive]), np.mean(abnormal[positive])
    axes.plot(*place, "o", color=colour, markersize=7, markeredgecolor="white", zorder=5)


def _finish(axes: Axes, kind: str) -> None:
    title, label = _PANELS[kind]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9, linestyle=":", zorder=1)
    axes.set(
        title=title,
        xlabel=label,
        ylabel="sensitivity",
        xlim=(-0.012, 1.012),
        ylim=(-0.012, 1.012),
        aspect="equal",
    )
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(0, -0.11), title=f"{kind} AUROC")
        legend.set_alignment("left")
    else:
        show_nothing(axes, "no comparable tumour-free slices")
