"""One page per scan for ``detect``: the verdict, the slices that led to it, every slice's score.

It needs no evaluation: ``detect`` starts without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twinvae.decision import STATISTICS, ScanVerdict
from twinvae.files import write_text
from twinvae.reporting.style import (
    BLUE,
    INK,
    VERMILLION,
    Images,
    as_png,
    as_svg,
    bare,
    data_uri,
    ordinal,
    percent,
    render,
    residual_limit,
    score_label,
    show_slice,
    styled,
)

SLICE_COLUMNS = ("slice", "position", "score", "threshold", "abnormal")
_SHOWN = 6  # slices on the page
_VISIBLE = 0.12  # of the residual's scale: smaller residuals stay transparent


class Judged(Protocol):
    """What a verdict's sentence and curve are made of, of a scan or of a patient."""

    @property
    def verdict(self) -> ScanVerdict | None:
        """As in ``ScanMaterial``."""

    @property
    def slices(self) -> pd.DataFrame:
        """As in ``ScanMaterial``."""

    @property
    def score(self) -> str:
        """As in ``ScanMaterial``."""


@dataclass(frozen=True)
class ScanMaterial:
    """What ``detect`` found in one scan. Arrays have one entry a slice, in ``slices``' order."""

    name: str
    """The scan, as the reader knows it."""
    verdict: ScanVerdict | None
    """What is said of the scan; None when nothing is, since it is out of domain."""
    slices: pd.DataFrame
    """One row a slice: ``slice`` (number along z), ``position`` in [0, 1], ``score``,
    ``threshold`` (d*: from here on a slice is abnormal), ``abnormal`` (bool, missing without a
    verdict)."""
    score: str
    """Name of the score."""
    images: Images
    """(n, H, W), intensity in [0, 1]; anterior at the top, the person's right on the left."""
    reconstructions: Images
    """(n, H, W): what the healthy model makes of them."""
    made: Mapping[str, object] = field(default_factory=dict)
    """How the page came about: what → text (bundle, version, recipe, time)."""
    warnings: Sequence[str] = ()
    """Sentences shown beside the verdict."""


def scan_html(material: ScanMaterial) -> str:
    """The page as one HTML text that opens offline. Raises ``ValueError`` on unequal lengths."""
    count = len(material.slices)
    if not count == len(material.images) == len(material.reconstructions) or not count:
        raise ValueError(
            f"expected as many slices, images and reconstructions, at least one; found {count}, "
            f"{len(material.images)}, {len(material.reconstructions)}"
        )
    tone, state, reason, called = said(material)
    return render(
        "scan.html.j2",
        name=material.name,
        tone=tone,
        state=state,
        reason=reason,
        called=called,
        warnings=material.warnings,
        montage=data_uri(as_png(figure_montage(material)), "png"),
        curve=data_uri(as_svg(figure_slice_scores(material)), "svg"),
        slices=slice_rows(material),
        made=material.made,
    )


def slice_rows(material: Judged) -> list[dict[str, object]]:
    """The rows of the page's table of slices."""
    return [
        {
            "slice": int(row["slice"]),
            "position": f"{row['position']:.2f}",
            "score": f"{row['score']:.4g}",
            "abnormal": bool(row["abnormal"]),
        }
        for _, row in marked(material).sort_values("slice").iterrows()
    ]


def write_scan_page(material: ScanMaterial, path: Path) -> None:
    """Write the page of ``scan_html`` atomically."""
    write_text(path, scan_html(material))


def said(material: Judged) -> tuple[str, str, str, str]:
    """Tone, state, the reason for it, and what is said of single slices."""
    verdict, bounds = material.verdict, material.slices["threshold"]
    if verdict is None:
        reason = "The scan is unlike the healthy scans that the thresholds were set on, as below."
        return "bad", "No verdict: out of domain", reason, "No slice was judged."
    low, high = float(bounds.min()), float(bounds.max())
    level = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}, by the slice's brain area"
    called = f"{int(material.slices['abnormal'].sum())} of {len(bounds)} slices reach"
    return (
        "bad" if verdict.abnormal else "good",
        "Abnormal" if verdict.abnormal else "No abnormality found",
        _reason(verdict, score_label(material.score)),
        f"{called} the threshold for single slices, d* = {level}.",
    )


def _reason(verdict: ScanVerdict, label: str) -> str:
    relation = "reaches" if verdict.abnormal else "stays below"
    what = STATISTICS[verdict.statistic].summary
    return (
        f"The {what} ({label}), {verdict.value:.4g}, {relation} the threshold for "
        f"scans, {verdict.threshold:.4g}: the {ordinal(verdict.percentile)} percentile of the "
        f"same in healthy validation scans. About {percent(verdict.target_fpr, 0)} "
        f"of healthy scans like those would be called abnormal. Conformal p-value of the scan: "
        f"{verdict.p_value:.2g}."
    )


def marked(material: Judged) -> pd.DataFrame:
    """The slices; none of them is abnormal without a verdict."""
    abnormal = material.slices["abnormal"].fillna(False).astype(bool)
    return material.slices.assign(abnormal=abnormal)


def highest_slices(scores: npt.NDArray[np.float64], count: int = _SHOWN) -> npt.NDArray[np.int64]:
    """Places of the ``count`` highest scores, the highest first."""
    return np.asarray(np.argsort(-scores, kind="stable")[:count], dtype=np.int64)


@styled
def figure_montage(material: ScanMaterial) -> Figure:
    """The highest-scoring slices: slice, healthy reconstruction, and the residual laid over."""
    slices = marked(material)
    chosen = highest_slices(slices["score"].to_numpy(dtype=np.float64))
    residual = material.images - material.reconstructions
    limit = residual_limit(residual[chosen])
    names = ("slice x", "healthy\nreconstruction x_h", "residual x − x_h\nover the slice")
    figure = Figure(figsize=(1.55 * len(chosen) + 2.0, 5.2), layout="constrained")
    grid = figure.subplots(3, len(chosen), squeeze=False)
    for column, place in enumerate(chosen):
        row = slices.iloc[int(place)]
        mark = " *" if row["abnormal"] else ""
        title = f"slice {int(row['slice'])}\nscore {row['score']:.3g}{mark}"
        grid[0, column].set_title(title, fontsize=8.5, fontweight="normal", loc="center")
        show_slice(grid[0, column], material.images[place])
        show_slice(grid[1, column], material.reconstructions[place])
        show_residual(grid[2, column], material.images[place], residual[place], limit)
    for axes in grid.flat:
        bare(axes)
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, labelpad=6)
    scale = ScalarMappable(Normalize(-limit, limit), "RdBu_r")  # opaque, unlike what is drawn
    bar = figure.colorbar(scale, ax=list(grid[2, :]), shrink=0.9, aspect=12, pad=0.01)
    bar.set_label("intensity", fontsize=8)
    return figure


def show_residual(axes: Axes, image: Images, residual: Images, limit: float) -> None:
    """The slice ``image`` with ``residual``, both (H, W), laid over where it is worth seeing."""
    show_slice(axes, image)
    strength = np.abs(residual) / limit
    alpha = np.clip((strength - _VISIBLE) / (0.6 - _VISIBLE), 0, 0.85)
    axes.imshow(residual, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=alpha)


@styled
def figure_slice_scores(material: Judged) -> Figure:
    """Score of every slice against its number, with its threshold and the scan's."""
    figure = Figure(figsize=(9.4, 3.3), layout="constrained")
    axes = figure.subplots()
    table = marked(material).sort_values("slice")
    abnormal = table["abnormal"].to_numpy(dtype=bool)
    axes.plot(table["slice"], table["score"], color=BLUE, marker="o", markersize=3.2)
    axes.plot(
        table["slice"][abnormal],
        table["score"][abnormal],
        "D",
        color=VERMILLION,
        markersize=5,
        label="abnormal slices",
    )
    label = "d*, threshold for slices"
    axes.plot(table["slice"], table["threshold"], color=INK, linestyle=(0, (4, 2)), label=label)
    if material.verdict is not None and material.verdict.statistic == "max":
        bound = material.verdict.threshold
        label = f"threshold for the scan's highest slice: {bound:.3g}"
        axes.axhline(bound, color=INK, linestyle=(0, (1, 1.5)), linewidth=1.2, label=label)
    axes.set(
        xlabel="slice number (along z of the scan, from its lowest slice up)",
        ylabel=f"{score_label(material.score)}\n(no unit)",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=3)
    return figure
