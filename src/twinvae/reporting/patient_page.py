"""One page per patient of several contrasts for ``detect``: the verdict on all, and on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from twinvae.decision import ScanVerdict
from twinvae.files import write_text
from twinvae.reporting.scan_page import (
    ScanMaterial,
    figure_slice_scores,
    highest_slices,
    marked,
    said,
    show_residual,
    slice_rows,
)
from twinvae.reporting.style import (
    as_png,
    as_svg,
    bare,
    data_uri,
    render,
    residual_limit,
    show_slice,
    styled,
)


@dataclass(frozen=True)
class PatientMaterial:
    """What ``detect`` found in the scans of one patient."""

    name: str
    """The patient, as the reader knows it."""
    verdict: ScanVerdict | None
    """On all contrasts; None when nothing is said."""
    slices: pd.DataFrame
    """As in ``ScanMaterial``, of the score that the contrasts have together."""
    score: str
    """Name of that score."""
    scans: Mapping[str, ScanMaterial]
    """Contrast → its scan; its own page is ``CONTRAST/report.html`` beside this one."""
    words: Mapping[str, str]
    """Contrast → what it says alone, and whether it was left out, for every contrast given."""
    made: Mapping[str, object] = field(default_factory=dict)
    """How the page came about: what → text."""
    warnings: Sequence[str] = ()
    """Sentences shown beside the verdict."""


def write_patient_page(material: PatientMaterial, path: Path) -> None:
    """Write the page atomically, one HTML text that opens offline."""
    tone, state, reason, called = said(material)
    page = render(
        "patient.html.j2",
        name=material.name,
        tone=tone,
        state=state,
        reason=reason,
        called=called,
        warnings=material.warnings,
        words=material.words,
        pages=[contrast for contrast in material.words if contrast in material.scans],
        montage=data_uri(as_png(figure_contrasts(material)), "png"),
        curve=data_uri(as_svg(figure_slice_scores(material)), "svg"),
        slices=slice_rows(material),
        made=material.made,
    )
    write_text(path, page)


@styled
def figure_contrasts(material: PatientMaterial) -> Figure:
    """The highest slices of the fused score, in every contrast, residuals laid over below.

    Scans on other grids show the slice that is nearest in relative position.
    """
    slices = marked(material)
    chosen = highest_slices(slices["score"].to_numpy(dtype=np.float64))
    count = 2 * len(material.scans)
    figure = Figure(figsize=(1.55 * len(chosen) + 2.0, 1.65 * count + 0.5), layout="constrained")
    grid = figure.subplots(count, len(chosen), squeeze=False)
    for row, (contrast, scan) in enumerate(material.scans.items()):
        position = scan.slices["position"].to_numpy(dtype=np.float64)
        places = [
            int(np.argmin(np.abs(position - slices["position"].iloc[int(at)]))) for at in chosen
        ]
        residual = scan.images - scan.reconstructions
        limit = residual_limit(residual[places])
        for column, place in enumerate(places):
            show_slice(grid[2 * row, column], scan.images[place])
            show_residual(grid[2 * row + 1, column], scan.images[place], residual[place], limit)
        for below, name in enumerate((contrast, "residual")):
            grid[2 * row + below, 0].set_ylabel(
                name, rotation=0, ha="right", va="center", fontsize=8.5, labelpad=6
            )
    for column, at in enumerate(chosen):
        one = slices.iloc[int(at)]
        title = f"slice {int(one['slice'])}\nscore {one['score']:.3g}"
        title += " *" if one["abnormal"] else ""
        grid[0, column].set_title(title, fontsize=8.5, fontweight="normal", loc="center")
    for axes in grid.flat:
        bare(axes)
    return figure
