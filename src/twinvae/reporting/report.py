"""``report.html``: one page that opens offline, with a verdict on top; and ``figures/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.figure import Figure

from twinvae.files import atomic_path, write_text
from twinvae.reporting.audit_table import audit_lines, audit_words
from twinvae.reporting.figures import figure_histograms, figure_roc, figure_training
from twinvae.reporting.flags import FlagSummary
from twinvae.reporting.gallery import Gallery, figure_gallery
from twinvae.reporting.page import SIGNS, render
from twinvae.reporting.style import Picture, data_uri, picture
from twinvae.reporting.tables import (
    headline_table,
    subject_table,
    table1,
    table1_blocks,
    write_table1,
)
from twinvae.reporting.words import caution, verdict
from twinvae.scoring.table import PAPER_SCORE

_STATISTICS = ("image_l2", "healthy_mean_norm")  # the paper's figure 4


@dataclass(frozen=True)
class ReportMaterial:
    """Everything a report is made from; nothing is read from disk."""

    config: Mapping[str, Any]
    """The resolved configuration, as plain data (keys ``name``, ``about``, …)."""
    scores: pd.DataFrame
    """A checked scores table."""
    calibration: Mapping[str, Any]
    """Content of ``calibration.json``."""
    metrics: pd.DataFrame
    """``metrics.tsv``."""
    audit: Mapping[str, Any]
    """Content of ``audit.json``."""
    logs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Title of each model → rows of its training log."""
    mixed: Gallery | None = None
    """Some test slices of the mixed source, with masks (figure 2)."""
    healthy: Gallery | None = None
    """Some test slices of the healthy source (figure 3)."""
    made: Mapping[str, object] = field(default_factory=dict)
    """How the run was made: what → text; seeds, versions, revision, times."""
    skipped: Sequence[Sequence[str]] = ()
    """Scans that could not be prepared: name, then reason."""
    flags: FlagSummary | None = None
    """Scans that quality control flagged."""


def write_report(material: ReportMaterial, folder: Path) -> Path:
    """Write ``folder/figures/`` (PNG, SVG, ``table1.tsv``) and ``folder/report.html``.

    Both are written atomically. Returns the page's path.
    """
    folder = Path(folder)
    pictures = {name: picture(figure) for name, figure in report_figures(material).items()}
    decision_score = material.calibration["decision_score"]
    with atomic_path(folder / "figures") as room:
        room.mkdir(parents=True)
        for name, one in pictures.items():
            one.save(room, name)
        write_table1(table1(material.metrics, decision_score), room / "table1.tsv")
    page = folder / "report.html"
    write_text(page, report_html(material, pictures))
    return page


def report_figures(material: ReportMaterial) -> dict[str, Figure]:
    """The report's figures by file name: those for which there is material."""
    scores, calibration = material.scores, material.calibration
    size = material.audit["min_tumour_px"]
    decision = calibration["decision_score"]
    main = [n for n in dict.fromkeys((decision, PAPER_SCORE)) if n in scores]
    statistics = [name for name in _STATISTICS if name in scores]
    rivals = [best["score"] for best in material.audit["best_trivial"].values() if best]
    compared = list(dict.fromkeys([*main, *rivals]))
    figures = {"figure1": figure_histograms(scores, main, calibration, size)}
    if material.mixed is not None:
        figures["figure2"] = figure_gallery(material.mixed)
    if material.healthy is not None:
        figures["figure3"] = figure_gallery(material.healthy)
    if statistics:
        figures["figure4"] = figure_histograms(scores, statistics, calibration, size)
    figures["roc"] = figure_roc(scores, compared, calibration, material.metrics, size)
    if material.logs:
        figures["training"] = figure_training(material.logs)
    return figures


def report_html(material: ReportMaterial, pictures: Mapping[str, Picture]) -> str:
    """The page itself, with ``pictures`` inside it."""
    metrics, audit, calibration = material.metrics, material.audit, material.calibration
    decision, size = calibration["decision_score"], audit["min_tumour_px"]
    headline = headline_table(metrics, decision, size)
    return render(
        "report.html.j2",
        name=material.config.get("name", "run"),
        about=material.config.get("about", ""),
        k=size,
        counts=_counts(headline, metrics),
        statements=verdict(metrics, audit, calibration),
        caution=caution(metrics),
        signs=SIGNS,
        table1=table1_blocks(metrics, decision),
        headline=headline,
        subjects=subject_table(metrics, decision, size),
        resamples=f"{audit['resamples']:,}",
        audit=audit_lines(audit, decision),
        audit_words=audit_words(audit, decision),
        audit_counts=_audit_counts(audit),
        figures={name: _embedded(name, one) for name, one in pictures.items()},
        made=material.made,
        skipped=material.skipped,
        flags=material.flags,
        config=yaml.safe_dump(dict(material.config), sort_keys=False, allow_unicode=True),
    )


def _embedded(name: str, one: Picture) -> str:
    """A picture as an address inside the page: slices as PNG, plots as SVG."""
    slices = name in ("figure2", "figure3")
    return data_uri(one.png, "png") if slices else data_uri(one.svg, "svg")


def _counts(headline: Mapping[str, Any], metrics: pd.DataFrame) -> str:
    people = int(metrics["n_subjects"].max()) if len(metrics) else 0
    return (
        f"Judged on {people} test subjects of the mixed source: {headline['n_pos']} tumour slices "
        f"and {headline['n_neg']} tumour-free ones."
    )


def _audit_counts(audit: Mapping[str, Any]) -> str:
    n = audit["n"]
    return (
        f"There are {n['healthy_slices']} healthy-source slices of {n['healthy_subjects']} test "
        f"subjects, and {n['tumour_free_slices']} tumour-free mixed slices of "
        f"{n['tumour_free_subjects']}."
    )
