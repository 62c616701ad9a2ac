"""The audit for readers: what each score sees, its thresholds, preparation and p-values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinvae.evaluation.adjusted import KINDS
from twinvae.reporting.cells import Cell, of_estimate
from twinvae.reporting.names import number, percent, percent_span, score_label, signed, span
from twinvae.reporting.tables import ordered_scores
from twinvae.reporting.words import SEES_TONES, Statement

GAPS = ("source_gap_auroc", "source_gap_auroc_matched", "source_gap_auroc_adjusted")
_DRIFTS = 10  # of the statistics of preparation


def sees_lines(audit: Mapping[str, Any], decision_score: str) -> list[dict[str, Any]]:
    """A line a score: what it mostly sees, and the numbers that say so."""
    lines = []
    for name in ordered_scores(audit["scores"], decision_score):
        entry = audit["scores"][name]
        shown = [*(entry["auroc"][kind] for kind in KINDS), *(entry[gap] for gap in GAPS)]
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


def which_slice_statement(audit: Mapping[str, Any], decision_score: str) -> Statement:
    """How far one gets by knowing only which slice it is, against the decision score."""
    found = audit["which_slice"]
    if found is None or found["value"] is None:
        return Statement("unclear", "What knowing the slice alone achieves is not known.", "")
    mine = audit["scores"][decision_score]["auroc"]["raw"]["value"]
    interval = span(found["ci_low"], found["ci_high"])
    return Statement(
        "unclear",
        f"Knowing only where a slice lies and how large its brain is reaches AUROC "
        f"{number(found['value'])}.",
        f"{'95 % interval ' + interval + '. ' if interval else ''}A logistic regression on "
        f"position and brain area, given tumour labels of other subjects "
        f"({found['folds']} folds); {score_label(decision_score)} reaches {number(mine)} raw. "
        f"Matched and adjusted AUROCs take this away.",
    )


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
    for kind in KINDS:
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
