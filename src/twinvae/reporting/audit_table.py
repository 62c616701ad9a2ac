"""The audit for readers: a table, and a sentence for each score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinvae.reporting.names import number, percent, percent_span, score_label, span
from twinvae.reporting.tables import ordered_scores
from twinvae.reporting.words import Statement, Tone, gap_words
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
    """What the audit says of every score that is not trivial."""
    out = []
    for name in ordered_scores(audit["scores"], decision_score):
        if is_trivial(name):
            continue
        entry = audit["scores"][name]
        raw, similar = entry["source_gap_auroc"], entry["source_gap_auroc_matched"]
        tone, words = gap_words(similar if similar["value"] is not None else raw)
        tones, rest = [tone], ""
        for rate in entry["false_positive_rates"][:1]:
            tone, rest = _called(rate)
            tones.append(tone)
        worst: Tone = "bad" if "bad" in tones else "unclear" if "unclear" in tones else "good"
        out.append(Statement(worst, f"{score_label(name)} {words}{rest}.", ""))
    return out


def _called(rate: Mapping[str, Any]) -> tuple[Tone, str]:
    """How often a threshold is wrong on tumour-free slices, against its promise."""
    free, target = rate["tumour_free"], rate["target"]
    if free["value"] is None:
        return "unclear", ""
    said = f"; its d* wrongly calls {percent(free['value'])} of tumour-free slices abnormal"
    intended = f"{percent(target)} intended"
    if free["ci_low"] is None:
        return "unclear", f"{said} ({intended}, no interval)"
    if free["ci_low"] > target:
        return "bad", f"{said}, more than the {intended}"
    if free["ci_high"] < target:
        return "good", f"{said}, fewer than the {intended}"
    return "good", f"{said} ({intended}; the difference may be chance)"


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
