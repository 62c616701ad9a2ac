"""The figure of a study: every score of every model, as a map of matched AUROC."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from twinvae.reporting.style import INK, styled
from twinvae.reporting.text import score_label
from twinvae.scoring.table import is_trivial

_MOST_SCORES = 40  # more rows than this nobody reads; the table has them all


@styled
def study_figure(table: pd.DataFrame, metric: str = "auroc_matched") -> Figure:
    """Scores down, models across, one panel a set of scans; framed where the rival is beaten.

    ``table``: a study's table. Rows are sorted by the best value anywhere; the trivial rivals come
    last. A frame says that the interval of the lead over the best rival lies above 0.
    """
    chosen = table[table["metric"] == metric]
    data = list(dict.fromkeys(chosen["data"]))
    models = list(dict.fromkeys(chosen["model"]))
    scores = _rows(chosen)
    panel = max(1.2, 0.5 * len(models) + 0.4)
    figure = Figure(
        figsize=(2.6 + panel * len(data), 2.0 + 0.2 * len(scores)), layout="constrained"
    )
    panels = figure.subplots(1, len(data), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, data, strict=True):
        part = chosen[chosen["data"] == name]
        image = _panel(axes, part, scores, models)
        axes.set_title(f"{name}\n{part['n_subjects'].iloc[0]} subjects", fontsize=8)
    panels[0].set_yticks(range(len(scores)), [score_label(s) for s in scores], fontsize=7)
    label = {"auroc_matched": "matched AUROC", "auroc": "AUROC"}[metric]
    figure.colorbar(image, ax=list(panels), label=label, shrink=0.5, aspect=30)
    return figure


def _rows(chosen: pd.DataFrame) -> list[str]:
    best = chosen.groupby("score")["value"].max().sort_values(ascending=False)
    trained = [str(name) for name in best.index if not is_trivial(str(name))]
    return trained[:_MOST_SCORES] + [str(name) for name in best.index if is_trivial(str(name))]


def _panel(axes: Axes, part: pd.DataFrame, scores: list[str], models: list[str]) -> AxesImage:
    rows = part.set_index(["score", "model"])
    values = rows["value"].unstack().reindex(index=scores, columns=models).to_numpy(np.float64)
    leads = rows["difference_low"].unstack().reindex(index=scores, columns=models)
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        text = f"{value:.2f}".removeprefix("0")
        ink = INK if 0.3 < value < 0.88 else "white"  # the map's ends are dark
        axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color=ink)
        if not is_trivial(scores[i]) and leads.to_numpy(np.float64)[i, j] > 0:
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, ec=INK, lw=1.0))
    axes.grid(visible=False)
    axes.set_xticks(range(len(models)), models, rotation=60, ha="right", fontsize=7)
    return axes.imshow(values, cmap="RdYlBu_r", vmin=0.2, vmax=1.0, aspect="auto")
