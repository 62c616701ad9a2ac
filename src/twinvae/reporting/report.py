"""``report.html``: one page that opens offline, with a verdict on top; and ``figures/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.figure import Figure

from twinvae.config import EvaluationConfig, validated
from twinvae.files import write_table, write_text
from twinvae.outputs import replaced
from twinvae.reporting.contact_sheets import FlagSummary
from twinvae.reporting.forest_plots import figure_false_positives, figure_strata
from twinvae.reporting.gallery import Gallery, figure_gallery
from twinvae.reporting.report_tables import (
    RANKING_METRICS,
    VERDICT_METRICS,
    best_rivals,
    comparison_lines,
    drift_lines,
    ordered_scores,
    p_value_lines,
    rate_lines,
    sees_lines,
    slice_table,
    strata_table,
    subject_table,
    table1,
    table1_blocks,
)
from twinvae.reporting.roc_curves import figure_roc
from twinvae.reporting.run_figures import figure_area, figure_histograms, figure_training
from twinvae.reporting.style import Picture, picture
from twinvae.reporting.text import data_uri, render, score_label
from twinvae.reporting.wording import (
    PUBLISHED,
    SIGNS,
    at_threshold,
    verdict,
    what_it_sees,
    which_slice_statement,
)
from twinvae.scoring.table import PAPER_SCORE

_CSS_PIXELS = 96  # in an inch
_STATISTICS = ("image_l2", "healthy_mean_norm")  # the paper's figure 4
_GALLERIES = {
    "figure2": "mixed",
    "figure3": "healthy",
    "false_positives": "false_positives",
    "false_negatives": "false_negatives",
}
"""Name of a figure that shows slices → where its material is."""


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
    false_positives: Gallery | None = None
    """The tumour-free slices that verdicts are most wrong about."""
    false_negatives: Gallery | None = None
    """The largest tumours that verdicts miss."""
    made: Mapping[str, object] = field(default_factory=dict)
    """How the run was made: what → text; seeds, versions, revision, times."""
    skipped: Sequence[Sequence[str]] = ()
    """Scans that could not be prepared: name, then reason."""
    flags: FlagSummary | None = None
    """Scans that quality control flagged."""


def write_report(material: ReportMaterial, folder: Path) -> Path:
    """Write ``folder/figures/`` (PNG, SVG, ``table1.tsv``) and ``folder/report.html``.

    Both are written atomically. Returns the page's path. Raises ``OutputError`` when ``figures/``
    holds anything else.
    """
    folder = Path(folder)
    pictures = {name: picture(figure) for name, figure in report_figures(material).items()}
    decision_score = material.calibration["decision_score"]
    with replaced(folder / "figures", "figures") as room:
        for name, one in pictures.items():
            one.save(room, name)
        write_table(room / "table1.tsv", table1(material.metrics, decision_score))
    page = folder / "report.html"
    write_text(page, report_html(material, pictures))
    return page


def report_figures(material: ReportMaterial) -> dict[str, Figure]:
    """The report's figures by file name: those for which there is material."""
    scores, calibration, audit = material.scores, material.calibration, material.audit
    size, decision = audit["min_tumour_px"], calibration["decision_score"]
    main = [n for n in dict.fromkeys((decision, PAPER_SCORE)) if n in scores]
    statistics = _statistics(material)
    figures = {
        "roc": _roc(material, main),
        "area": figure_area(scores, decision, calibration, size),
        "strata": figure_strata(material.metrics, decision, best_rivals(audit), size),
        "figure1": figure_histograms(scores, main, calibration, size),
    }
    if statistics:
        figures["figure4"] = figure_histograms(scores, statistics, calibration, size)
    rates = audit["scores"][decision]["false_positive_rates"]
    if rates:
        figures["false_positive_rates"] = figure_false_positives(rates[0])
    if material.logs:
        figures["training"] = figure_training(material.logs)
    galleries = {name: getattr(material, field) for name, field in _GALLERIES.items()}
    return figures | {name: figure_gallery(g) for name, g in galleries.items() if g is not None}


def _statistics(material: ReportMaterial) -> list[str]:
    """Those of the paper's two statistics that the run has."""
    return [name for name in _STATISTICS if name in material.scores]


def _figure4(material: ReportMaterial) -> str:
    """The caption of figure 4, of what it shows."""
    found = _statistics(material)
    which = (
        "The two statistics that the paper compares with"
        if len(found) == len(_STATISTICS)
        else f"{' and '.join(score_label(name) for name in found)}, one of the two statistics that "
        f"the paper compares with; this run has no other"
    )
    return f"Figure 4. {which}."


def _roc(material: ReportMaterial, main: Sequence[str]) -> Figure:
    """ROC curves of the scores ``main`` and of the best trivial rival of each kind."""
    rivals = best_rivals(material.audit)
    names = {
        kind: [name for name in dict.fromkeys([*main, rivals[kind]]) if name is not None]
        for kind in ("raw", "adjusted")
    }
    options = validated(EvaluationConfig, material.config.get("evaluation", {}), "evaluation")
    return figure_roc(material.scores, names, material.calibration, material.audit, options)


def report_html(material: ReportMaterial, pictures: Mapping[str, Picture]) -> str:
    """The page itself, with ``pictures`` inside it."""
    metrics, audit, calibration = material.metrics, material.audit, material.calibration
    decision, size = calibration["decision_score"], audit["min_tumour_px"]
    return render(
        "report.html.j2",
        name=material.config.get("name", "run"),
        about=material.config.get("about", ""),
        k=size,
        signs=SIGNS,
        top=what_it_sees(decision, audit),
        comparison=list(comparison_lines(audit, decision)),
        at_threshold=at_threshold(metrics, audit, calibration),
        statements=verdict(metrics, audit, calibration),
        support=audit["support"],
        warnings=audit["warnings"],
        resamples=f"{audit['resamples']:,}",
        figure4=_figure4(material),
        figures={name: _embedded(name, one) for name, one in pictures.items()},
        **_tables(metrics, audit, decision),
        audit=_audit(audit, decision),
        made=material.made,
        skipped=material.skipped,
        flags=material.flags,
        config=yaml.safe_dump(dict(material.config), sort_keys=False, allow_unicode=True),
    )


def _tables(metrics: pd.DataFrame, audit: Mapping[str, Any], decision: str) -> dict[str, Any]:
    """The tables of metrics, by their names in the template."""
    size, rivals = audit["min_tumour_px"], [r for r in best_rivals(audit).values() if r]
    everything = ordered_scores(audit["scores"], decision)
    main = [n for n in dict.fromkeys([decision, *PUBLISHED, *rivals]) if n in everything]
    return {
        "table1": table1_blocks(metrics, main, decision),
        "table1_rest": table1_blocks(
            metrics, [name for name in everything if name not in main], decision
        ),
        "ranking": slice_table(metrics, RANKING_METRICS, decision, size),
        "verdicts": slice_table(metrics, VERDICT_METRICS, decision, size),
        "subjects": subject_table(metrics, decision, size),
        "strata": strata_table(metrics, list(dict.fromkeys([decision, *rivals])), size),
    }


def _audit(audit: Mapping[str, Any], decision: str) -> dict[str, Any]:
    """The audit's part of the page."""
    return {
        "n": audit["n"],
        "which_slice": which_slice_statement(audit, decision),
        "sees": sees_lines(audit, decision),
        "rates": rate_lines(audit, decision),
        "p_values": p_value_lines(audit, decision),
        "drift": drift_lines(audit),
    }


def _embedded(name: str, one: Picture) -> dict[str, object]:
    """A picture as an address inside the page, slices as PNG, plots as SVG; width in CSS pixels."""
    slices = name in _GALLERIES
    address = data_uri(one.png, "png") if slices else data_uri(one.svg, "svg")
    return {"address": address, "width": round(one.width * _CSS_PIXELS)}
