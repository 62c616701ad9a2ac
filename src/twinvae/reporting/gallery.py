"""Pictures of slices: originals, healthy reconstructions, residuals, masks; and which are shown.

For the paper's figures 2 and 3 slices are chosen by a fixed rule that looks at no score, so nothing
is picked; the worst mistakes are picked by score and label, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from twinvae.decision import called, slice_thresholds
from twinvae.evaluation.subsets import known_mixed
from twinvae.reporting.style import (
    Images,
    Masks,
    bare,
    outline,
    residual_limit,
    show_nothing,
    show_slice,
    styled,
)
from twinvae.scoring.table import area_unit, areas
from twinvae.vocabulary import SUBJECT_KEY

_RESIDUAL_COLOURS = "RdBu_r"
_MAP_COLOURS = "inferno"


@dataclass(frozen=True)
class Gallery:
    """Some slices, and what the healthy model makes of them.

    Rows run from anterior to posterior, columns from the person's right to left, as stored.
    """

    images: Images
    """(n, H, W), intensity in [0, 1]."""
    reconstructions: Images
    """(n, H, W), intensity in [0, 1]."""
    captions: Sequence[str]
    """n short texts, up to three lines each."""
    masks: Masks | None = None
    """(n, H, W), tumour; None when there is none to show."""
    maps: Images | None = None
    """(n, H, W), larger = more abnormal; shown instead of the residual x − x_h."""
    map_name: str = ""
    """What they are."""


@styled
def figure_gallery(gallery: Gallery) -> Figure:
    """A column a slice: x, x_h, a map and, when there are masks, x with the tumour's outline."""
    count = len(gallery.images)
    seen = _shown_map(gallery)
    names = ["slice x", "healthy\nreconstruction x_h", seen.name]
    names += ["tumour mask"] if gallery.masks is not None else []
    if not count:
        figure = Figure(figsize=(5, 2), layout="constrained")
        show_nothing(figure.subplots(), "no slices to show")
        return figure
    close = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(1.2 * count + 1.9, 1.2 * len(names) + 0.6), layout=close)
    grid = figure.subplots(len(names), count, squeeze=False)
    for column, caption in enumerate(gallery.captions):
        x = gallery.images[column]
        show_slice(grid[0, column], x)
        show_slice(grid[1, column], gallery.reconstructions[column])
        drawn = grid[2, column].imshow(
            seen.values[column], cmap=seen.colours, vmin=seen.low, vmax=seen.high
        )
        if gallery.masks is not None:
            show_slice(grid[3, column], x)
            outline(grid[3, column], gallery.masks[column])
        grid[0, column].set_title(caption, fontsize=7.5, fontweight="normal", loc="center")
    for axes in grid.flat:
        bare(axes)
    for row, name in enumerate(names):
        grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, labelpad=6)
    bar = figure.colorbar(drawn, ax=list(grid[2, :]), shrink=0.92, aspect=12, pad=0.01)
    bar.set_label(seen.unit, fontsize=7.5)
    bar.ax.tick_params(labelsize=7)
    return figure


@dataclass(frozen=True)
class _ShownMap:
    name: str
    values: Images
    colours: str
    low: float
    high: float
    unit: str


def _shown_map(gallery: Gallery) -> _ShownMap:
    if gallery.maps is None:
        residual = gallery.images - gallery.reconstructions
        limit = residual_limit(residual)
        name = "residual\nx − x_h"
        return _ShownMap(name, residual, _RESIDUAL_COLOURS, -limit, limit, "intensity")
    high = float(np.percentile(gallery.maps, 99.5)) if gallery.maps.size else 0.0
    name = f"map\n{gallery.map_name}"
    return _ShownMap(name, gallery.maps, _MAP_COLOURS, 0.0, high or 1.0, "no unit")


def choose_slices(
    scores: pd.DataFrame, role: str, min_tumour_px: int, *, count: int = 8
) -> npt.NDArray[np.int64]:
    """Row numbers of at most ``count`` test slices of ``role``, one a subject.

    Of a mixed subject the slice with the largest tumour, if it has a tumour slice; of a healthy
    subject the slice with the largest brain. When there are more subjects than ``count``, they
    are taken evenly through the list sorted by source and subject.
    """
    rows = scores.reset_index(drop=True)
    rows = rows[(rows["role"] == role) & (rows["split"] == "test")]
    if role == "mixed":
        rows = rows[rows["tumour_px"] > min_tumour_px]
    rows = rows.assign(by=areas(rows, "tumour" if role == "mixed" else "brain"))
    best = rows.groupby(list(SUBJECT_KEY), sort=True)["by"].idxmax().to_numpy(dtype=np.int64)
    if len(best) > count:
        best = best[np.linspace(0, len(best) - 1, count).round().astype(np.int64)]
    return best


def worst_slices(
    scores: pd.DataFrame, calibration: Mapping[str, Any], min_tumour_px: int, *, count: int = 8
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers of the worst false positives and false negatives of the verdicts' score.

    False positives: the test slices of mixed sources without any tumour pixel that exceed their
    threshold most; those of 1 to ``min_tumour_px`` pixels are mistakes of neither kind.
    False negatives: the tumour slices below theirs, the largest tumours first. At most one of each
    a subject and ``count`` in all; none without thresholds.
    """
    name = calibration["decision_score"]
    rows = known_mixed(scores.reset_index(drop=True), "test")
    if name not in calibration["scores"] or not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    excess = rows[name].to_numpy() - slice_thresholds(calibration, rows, name)[0][1]
    abnormal = called(calibration, rows, name)[0][1]
    tumour = (rows["tumour_px"] > min_tumour_px).to_numpy()
    clean = (rows["tumour_px"] == 0).to_numpy()
    return (
        _first_of_each(rows.assign(by=excess)[abnormal & clean], count),
        _first_of_each(rows.assign(by=areas(rows, "tumour"))[~abnormal & tumour], count),
    )


def _first_of_each(rows: pd.DataFrame, count: int) -> npt.NDArray[np.int64]:
    """Row numbers, largest ``by`` first, one a subject."""
    ordered = rows.sort_values("by", ascending=False, kind="stable")
    firsts = ordered.drop_duplicates(list(SUBJECT_KEY))
    return firsts.index.to_numpy(dtype=np.int64)[:count]


def captions(scores: pd.DataFrame, rows: npt.NDArray[np.int64], score: str) -> list[str]:
    """Subject, slice number and score of each of ``rows``, a line each."""
    return [
        f"{row['subject']}\nslice {row['slice']}\nscore {row[score]:.3g}"
        for _, row in scores.iloc[rows].iterrows()
    ]


def worst_captions(
    scores: pd.DataFrame, rows: npt.NDArray[np.int64], calibration: Mapping[str, Any]
) -> list[str]:
    """Subject, slice number, tumour in pixels and mm², score against its threshold."""
    name = calibration["decision_score"]
    chosen = scores.iloc[rows]
    bounds = slice_thresholds(calibration, chosen, name)[0][1] if len(rows) else ()
    known = area_unit(chosen) == "mm2"
    mm2 = [f", {area:.0f} mm²" if known else "" for area in areas(chosen, "tumour")]
    return [
        f"{row['subject']}\nslice {row['slice']}\n{row['tumour_px']:.0f} px{area}\n"
        f"{row[name]:.3g} (d* {bound:.3g})"
        for (_, row), area, bound in zip(chosen.iterrows(), mm2, bounds, strict=True)
    ]
