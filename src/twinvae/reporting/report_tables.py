"""Tables of a report: the paper's Table 1 for any run, all metrics at the headline size, strata;
and the audit's: what each score sees, its thresholds, preparation and p-values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from twinvae.reporting.metric_cells import (
    AUROCS,
    METRICS,
    Cell,
    Cells,
    of_estimate,
    strata_of,
    stratum_label,
)
from twinvae.reporting.text import number, percent, percent_span, score_label, signed, span
from twinvae.reporting.wording import SEES_TONES
from twinvae.scoring.table import PAPER_SCORE, is_trivial

TABLE1_METRICS = ("accuracy", "f1", "auroc", "auroc_matched", "auroc_adjusted")
RANKING_METRICS = (
    "auroc",
    "auroc_matched",
    "auroc_adjusted",
    "partial_auroc",
    "sensitivity_at_specificity_95",
    "sensitivity_at_specificity_99",
    "average_precision",
)
"""What needs no threshold."""
VERDICT_METRICS = (
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "accuracy",
    "balanced_accuracy",
)
"""What verdicts at d* do."""
SUBJECT_METRICS = ("auroc", "sensitivity", "specificity", "precision", "f1", "accuracy")
GAPS = ("source_gap_auroc", "source_gap_auroc_matched", "source_gap_auroc_adjusted")
_DRIFTS = 10  # of the statistics of preparation


def ordered_scores(names: Iterable[str], decision_score: str) -> list[str]:
    """The decision score, the paper's, other scores, then the trivial rivals."""
    there = list(dict.fromkeys(names))
    first = [name for name in (decision_score, PAPER_SCORE) if name in there]
    rest = [name for name in there if name not in first]
    return list(dict.fromkeys([*first, *sorted(rest, key=is_trivial)]))


def table1(metrics: pd.DataFrame, decision_score: str) -> pd.DataFrame:
    """Accuracy, F1 and the three AUROCs of every score at every tumour size, with intervals.

    One row a score and size; columns ``score min_tumour_px n_pos n_neg``, then for each metric
    its value, ``_ci_low`` and ``_ci_high``.
    """
    cells = Cells(metrics)
    columns = ["score", "min_tumour_px", "n_pos", "n_neg"]
    columns += [m + end for m in TABLE1_METRICS for end in ("", "_ci_low", "_ci_high")]
    rows = []
    for name in ordered_scores(cells.scores, decision_score):
        for size in cells.sizes:
            counts = cells.get(name, "auroc", size)
            row: list[object] = [name, size, counts.n_pos, counts.n_neg]
            for metric in TABLE1_METRICS:
                cell = cells.get(name, metric, size)
                row += [cell.value, cell.ci_low, cell.ci_high]
            rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def table1_blocks(
    metrics: pd.DataFrame, names: Sequence[str], decision_score: str
) -> dict[str, Any]:
    """Table 1 for the page: tumour sizes across, the scores ``names`` down, a block a metric.

    The three AUROCs of a score stand below each other, so that none is read without the others.
    """
    cells = Cells(metrics)

    def line(label: str, name: str, metric: str) -> dict[str, Any]:
        shown = [cells.get(name, metric, size) for size in cells.sizes]
        return {"label": label, "decision": name == decision_score, "cells": shown}

    aurocs = [
        line(label, name, metric)
        for name in names
        for label, metric in (
            (score_label(name), "auroc"),
            ("… matched", "auroc_matched"),
            ("… adjusted", "auroc_adjusted"),
        )
    ]
    blocks = [{"title": "AUROC: raw, matched, adjusted", "lines": aurocs}]
    blocks += [
        {"title": title, "lines": [line(score_label(name), name, metric) for name in names]}
        for title, metric in (("Accuracy at d*", "accuracy"), ("F1 at d*", "f1"))
    ]
    counts = [cells.get(names[0], "auroc", size).n_pos for size in cells.sizes] if names else []
    return {"sizes": cells.sizes, "counts": counts, "blocks": blocks}


def slice_table(
    metrics: pd.DataFrame, chosen: Sequence[str], decision_score: str, min_tumour_px: int
) -> dict[str, Any]:
    """Every score's slice metrics ``chosen`` with intervals at one tumour size, for the page."""
    cells = Cells(metrics)
    names = ordered_scores(cells.scores, decision_score)
    return _metric_table(cells, names, chosen, min_tumour_px, decision_score)


def strata_table(
    metrics: pd.DataFrame, names: Sequence[str], min_tumour_px: int
) -> list[dict[str, Any]]:
    """The three AUROCs of the scores ``names`` in every stratum, for the page."""
    return [
        {
            "stratum": stratum_label(subset) if place == 0 else "",
            "label": score_label(name),
            "counts": cells.get(name, "auroc", min_tumour_px),
            "cells": [cells.get(name, metric, min_tumour_px) for metric in AUROCS.values()],
        }
        for subset in strata_of(metrics, min_tumour_px)
        for cells in (Cells(metrics, subset=subset),)
        for place, name in enumerate(names)
    ]


def subject_table(metrics: pd.DataFrame, decision_score: str, min_tumour_px: int) -> dict[str, Any]:
    """Every score's subject metrics with intervals at one tumour size, for the page."""
    cells = Cells(metrics, level="subject")
    names = ordered_scores(cells.scores, decision_score)
    return _metric_table(cells, names, SUBJECT_METRICS, min_tumour_px, decision_score)


def _metric_table(
    cells: Cells,
    names: Sequence[str],
    chosen: Sequence[str],
    min_tumour_px: int,
    decision_score: str,
) -> dict[str, Any]:
    lines = [
        {
            "label": score_label(name),
            "decision": name == decision_score,
            "trivial": is_trivial(name),
            "cells": [cells.get(name, metric, min_tumour_px) for metric in chosen],
        }
        for name in names
    ]
    counts = cells.get(names[0], "auroc", min_tumour_px) if names else Cell()
    prevalence = cells.get(names[0], "prevalence", min_tumour_px) if names else Cell()
    return {
        "columns": [METRICS[metric] for metric in chosen],
        "lines": lines,
        "n_pos": counts.n_pos,
        "n_neg": counts.n_neg,
        "prevalence": prevalence.text,
    }


def sees_lines(audit: Mapping[str, Any], decision_score: str) -> list[dict[str, Any]]:
    """A line a score: what it mostly sees, and the numbers that say so."""
    lines = []
    for name in ordered_scores(audit["scores"], decision_score):
        entry = audit["scores"][name]
        shown = [*(entry["auroc"][kind] for kind in AUROCS), *(entry[gap] for gap in GAPS)]
        lines.append(
            {
                "label": score_label(name),
                "decision": name == decision_score,
                "sees": entry["sees"].removeprefix("this score "),
                "because": entry["because"],
                "tone": SEES_TONES.get(entry["sees"], "unclear"),
                "cells": [of_estimate(found) for found in shown],
            }
        )
    return lines


def rate_lines(audit: Mapping[str, Any], decision_score: str) -> list[dict[str, Any]]:
    """A line for each score and threshold: how often slices without tumour are called abnormal."""
    return [
        {
            "label": score_label(name) if place == 0 else "",
            "decision": name == decision_score,
            "percentile": f"{rate['percentile']:g}",
            "target": percent(rate["target"]),
            "cross_validated": percent(rate["cross_validated"]),
            "rates": [_share(rate[where], rate["target"]) for where in ("healthy", "tumour_free")],
            "sliver": _share(rate["sliver"], 1.0),  # never too many: there is some tumour
        }
        for name in ordered_scores(audit["scores"], decision_score)
        for place, rate in enumerate(audit["scores"][name]["false_positive_rates"])
    ]


def _share(found: Mapping[str, Any], target: float) -> dict[str, str]:
    """A share with its interval; bad when it is surely above the target."""
    low = found["ci_low"]
    return {
        "text": percent(found["value"]),
        "span": percent_span(low, found["ci_high"]),
        "tone": "bad" if low is not None and low > target else "",
    }


def p_value_lines(audit: Mapping[str, Any], decision_score: str) -> list[dict[str, Any]]:
    """How the decision score's p-values behave on slices without tumour; empty without any."""
    found = audit["scores"].get(decision_score, {}).get("p_values")
    groups = {"healthy": "healthy source", "tumour_free": "mixed, tumour-free"}
    return [
        {
            "label": label,
            "ks": number(found[where]["ks"], 2),
            "rates": [_share(rate, float(level)) for level, rate in found[where]["rates"].items()],
        }
        for where, label in (groups.items() if found else ())
    ]


def drift_lines(audit: Mapping[str, Any]) -> list[list[str]]:
    """The largest differences in preparation between healthy sources and another source."""
    return [
        [
            row["source"],
            row["statistic"].replace("_", " "),
            "–" if (d := row["standardised_difference"]) is None else signed(d, 2),
            number(row["ks"], 2),
        ]
        for row in audit["drift"][:_DRIFTS]
    ]


def best_rivals(audit: Mapping[str, Any]) -> dict[str, str | None]:
    """For each kind of AUROC the name of the best trivial rival."""
    return {kind: best and best["score"] for kind, best in audit["best_trivial"].items()}


def comparison_lines(audit: Mapping[str, Any], decision_score: str) -> Iterator[dict[str, Any]]:
    """For each kind of AUROC: the decision score, the best trivial rival, and the lead."""
    says = {
        "raw": "all slices",
        "matched": "pairs of similar area and position",
        "adjusted": "among slices of the same area and position",
    }
    leads = audit["comparisons"].get(decision_score, {})
    for kind in AUROCS:
        lead, best = leads.get(kind), audit["best_trivial"][kind]
        yield {
            "kind": kind,
            "says": says[kind],
            "mine": of_estimate(audit["scores"][decision_score]["auroc"][kind]),
            "rival": score_label(best["score"]).removeprefix("Trivial: ") if best else "none",
            "rival_cell": of_estimate(best) if best else Cell(),
            "lead": "–" if lead is None or lead["difference"] is None
            else signed(lead["difference"]),
            "lead_span": "" if lead is None else span(lead["ci_low"], lead["ci_high"]),
        }  # fmt: skip
