"""ROC curves, raw and adjusted for brain area and position, with bands over subjects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twinvae.config import EvaluationConfig
from twinvae.decision import called
from twinvae.evaluation.adjusted import Neighbours, find_neighbours, ranks_of
from twinvae.evaluation.resampling import (
    BoolArray,
    FloatArray,
    fewer_subjects,
    interval,
    multiplicities,
    ratio,
)
from twinvae.evaluation.similar import Matching
from twinvae.evaluation.subsets import Sample, known_mixed, sample_of
from twinvae.reporting.style import BLUE, GREEN, GREY, VERMILLION, show_nothing, styled
from twinvae.reporting.text import number, score_label, span, wrapped
from twinvae.scoring.table import is_trivial

GRID = np.linspace(0, 1, 201)
"""False-positive rates at which bands are computed."""
_LINE_IN = 0.18  # that a name on two lines takes more of the legend
_PANELS = {
    "raw": ("Over all slices", "false-positive rate"),
    "adjusted": (
        "Adjusted for brain area and position",
        "false-positive rate among slices of the same area and position",
    ),
}
_RESAMPLES = 500  # a band is looked at, not quoted
_CUTOFFS = 1000  # at most, behind a band
_ROUNDING = 1e-6  # of a placement value, kept in float32


@dataclass(frozen=True)
class RocCurve:
    """One score's curve."""

    wrong: FloatArray
    """False-positive rate at each corner, rising from 0 to 1; (m,)."""
    found: FloatArray
    """Sensitivity there; (m,)."""
    low: FloatArray
    """Lower end of the pointwise 95 % interval of sensitivity at ``GRID``; NaN without one."""
    high: FloatArray
    """The upper end."""


class RocCurves:
    """Curves of any score on the same slices and the same resamples of subjects."""

    def __init__(
        self, rows: pd.DataFrame, min_tumour_px: int, options: EvaluationConfig, seed: int
    ) -> None:
        """``rows``: slices of mixed sources whose tumour pixels are known."""
        self._sample: Sample = sample_of(rows)
        self._positive = self._sample.positive(min_tumour_px)
        self._n_independent = fewer_subjects(self._positive, self._sample.subject)
        resamples = min(options.resamples, _RESAMPLES)
        self._draws = multiplicities(self._sample.n_subjects, resamples, seed)
        self._neighbours: Neighbours = find_neighbours(
            self._positive,
            self._sample.subject,
            self._sample.n_subjects,
            self._sample.log_area,
            self._sample.position,
            Matching(options.match_log_area, options.match_position),
        )

    def raw(self, name: str) -> RocCurve:
        """All tumour slices against all tumour-free ones."""
        score = self._sample.scores[name]
        wrong, found = roc_points(score, self._positive)
        return self._with_band(wrong, found, np.array(list(self._raw_resampled(score))))

    def adjusted(self, name: str) -> RocCurve | None:
        """Each tumour slice among tumour-free ones of its own area and position.

        The distribution function of the placement values (Janes and Pepe 2009), whose area is the
        adjusted AUROC. None when no tumour slice has a comparable tumour-free one.
        """
        near = self._neighbours
        if not len(near.placed):
            return None
        score = self._sample.scores[name]
        placement = near.placement(score)
        values, counts = np.unique(placement.round(6).clip(0, 1), return_counts=True)
        share = np.cumsum(counts) / len(placement)
        wrong = np.concatenate([[0.0], np.repeat(values, 2), [1.0]])
        found = np.repeat(np.concatenate([[0.0], share]), 2)
        return self._with_band(wrong, found, self._adjusted_resampled(score))

    def _raw_resampled(self, score: FloatArray) -> Iterator[FloatArray]:
        """Sensitivity at ``GRID`` in each resample."""
        cutoffs = np.unique(score)[::-1]
        thin = np.linspace(0, len(cutoffs) - 1, min(len(cutoffs), _CUTOFFS)).round()
        place = np.searchsorted(-cutoffs[thin.astype(np.int64)], -score)
        called = []
        for chosen in (~self._positive, self._positive):
            counts = np.zeros((self._sample.n_subjects, len(thin) + 1))
            np.add.at(counts, (self._sample.subject[chosen], place[chosen] + 1), 1.0)
            each = self._draws @ counts.cumsum(axis=1)
            called.append(ratio(each, each[:, -1:]))
        for wrong, found in zip(*called, strict=True):
            defined = np.isfinite(wrong[-1] + found[-1])
            yield np.interp(GRID, wrong, found) if defined else np.full(len(GRID), np.nan)

    def _adjusted_resampled(self, score: FloatArray) -> FloatArray:
        """The same among comparable slices; (resamples, grid)."""
        ranks, draws, steps = ranks_of(score), self._draws, len(GRID) - 1
        counts = np.zeros(len(draws) * len(GRID))
        for block in self._neighbours.blocks:
            among = draws @ block.weights.T
            placement = 1 - ratio(draws @ block.by_subject(block.wins(ranks)).T, among)
            drawn = np.where(among > 0, draws[:, self._sample.subject[block.placed]], 0.0)
            reached = np.ceil((np.nan_to_num(placement) - _ROUNDING) * steps).clip(0, steps)
            cell = reached.astype(np.int64) + len(GRID) * np.arange(len(draws))[:, None]
            counts += np.bincount(cell.ravel(), drawn.ravel(), minlength=len(counts))
        share = counts.reshape(-1, len(GRID)).cumsum(axis=1)
        return ratio(share, share[:, -1:])

    def _with_band(self, wrong: FloatArray, found: FloatArray, resampled: FloatArray) -> RocCurve:
        columns = resampled.reshape(-1, len(GRID)).T
        ends = np.array([interval(each, self._n_independent) for each in columns])
        return RocCurve(wrong, found, ends[:, 0], ends[:, 1])


def roc_points(score: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """False- and true-positive rates at every distinct score, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    found = np.cumsum(positive[order])[last] / max(1, int(positive.sum()))
    wrong = np.cumsum(~positive[order])[last] / max(1, int((~positive).sum()))
    return np.concatenate([[0.0], wrong]), np.concatenate([[0.0], found])


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
    further = [sum(label.count("\n") for label in axes.get_legend_handles_labels()[1])
               for axes in panels.values()]  # fmt: skip
    figure.set_figheight(figure.get_figheight() + _LINE_IN * max(further))
    return figure


def _look(name: str, *, first: bool) -> tuple[str, str]:
    """Colour and line: of the score that verdicts use, of a trivial rival, or of another."""
    if first:
        return VERMILLION, "-"
    return (GREEN, "--") if is_trivial(name) else (BLUE, "-.")


def _label(name: str, found: Mapping[str, Any]) -> str:
    interval = span(found["ci_low"], found["ci_high"], 2).replace(" to ", "–")
    label = wrapped(score_label(name), 36)
    return f"{label}: {number(found['value'], 2)}" + (f" ({interval})" * bool(interval))


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
        anchor="N",  # what is left of the height is the legend's
    )
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(0, -0.11), title=f"{kind} AUROC")
        legend.set_alignment("left")
    else:
        show_nothing(axes, "no comparable tumour-free slices")
