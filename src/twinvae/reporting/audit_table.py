"""The audit for readers: a table, and a sentence for each score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinvae.reporting.names import number, percent, percent_span, score_label, span
from twinvae.reporting.tables import ordered_scores
from twinvae.reporting.words import Statement, gap_words
from twinvae.scoring.table import is_trivial


@dataclass(frozen=True)
class _Text:
    text: str
    span: str = ""


def audit_lines(audit: Mapping[str, Any], decision_score: str) -> list[dict[str, Any]]:
    """A line for each score and percentile: source gap, then false-positive rates."""
    lines = []
    for name in ordered_scores(audit["scores"], decision_score):
        entry = audit["scores"][name]
        gap = [_estimate(entry[key]) for key in ("source_gap_auroc", "source_gap_auroc_matched")]
        rates = entry["false_positive_rates"] or [None]
        for place, rate in enumerate(rates):
            first = place == 0
            lines.append(
                {
                    "label": score_label(name) if first else "",
                    "decision": name == decision_score,
                    "cells": [*(gap if first else [_Text(""), _Text("")]), *_rate_cells(rate)],
                }
            )
    return lines


def audit_words(audit: Mapping[str, Any], decision_score: str) -> list[Statement]:
    """What the source gap says of every score that is not trivial."""
    out = []
    for name in ordered_scores(audit["scores"], decision_score):
        if is_trivial(name):
            continue
        entry = audit["scores"][name]
        raw, similar = entry["source_gap_auroc"], entry["source_gap_auroc_matched"]
        tone, words = gap_words(similar if similar["value"] is not None else raw)
        out.append(Statement(tone, f"{score_label(name)} {words}{_called(entry)}.", ""))
    return out


def _called(entry: Mapping[str, Any]) -> str:
    """How often its first threshold is wrong on tumour-free slices, against its promise."""
    for rate in entry["false_positive_rates"][:1]:
        free, target = rate["tumour_free"], rate["target"]
        if free["value"] is None:
            return ""
        rates = f"{percent(free['value'])}, {percent(target)} intended"
        if free["ci_low"] is not None and free["ci_low"] > target:
            return f"; its d* calls too many tumour-free slices abnormal ({rates})"
        if free["ci_high"] is not None and free["ci_high"] < target:
            return f"; its d* calls fewer tumour-free slices abnormal than intended ({rates})"
        return f"; its d* gives about the false-positive rate intended ({rates})"
    return ""


def _estimate(entry: Mapping[str, Any]) -> _Text:
    return _Text(number(entry["value"]), span(entry["ci_low"], entry["ci_high"]))


def _share(entry: Mapping[str, Any]) -> _Text:
    return _Text(percent(entry["value"]), percent_span(entry["ci_low"], entry["ci_high"]))


def _rate_cells(rate: Mapping[str, Any] | None) -> list[_Text]:
    if rate is None:
        return [_Text("–")] * 5
    return [
        _Text(f"{rate['percentile']:g}"),
        _Text(percent(rate["target"])),
        _Text(percent(rate["cross_validated"])),
        _share(rate["healthy"]),
        _share(rate["tumour_free"]),
    ]
