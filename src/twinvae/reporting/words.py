"""The verdict on a run in plain language, computed from its numbers and never bent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from twinvae.reporting.cells import Cells
from twinvae.reporting.names import (
    number,
    ordinal,
    percent,
    percent_span,
    score_label,
    signed,
    span,
)
from twinvae.reporting.tables import PUBLISHED
from twinvae.scoring.table import PAPER_SCORE, is_trivial

Tone = Literal["good", "bad", "unclear"]
FEW_SUBJECTS = 20
"""Below this many subjects, a report says that its intervals are rough."""
ENOUGH_FOUND = 0.5
"""Verdicts count as good when they surely find more than this share of tumour slices, and wrongly
call no more tumour-free ones than intended."""
CLEAR_GAP = 0.1
"""A source-gap AUROC farther than this from 0.5 counts as large."""


@dataclass(frozen=True)
class Statement:
    """One sentence or two for a reader in a hurry."""

    tone: Tone
    headline: str
    detail: str


def verdict(
    metrics: pd.DataFrame, audit: Mapping[str, Any], calibration: Mapping[str, Any]
) -> list[Statement]:
    """What the run showed, most important first."""
    name = calibration["decision_score"]
    cells = Cells(metrics)
    return [
        _against_rivals(name, audit),
        _paper_score(cells, audit["min_tumour_px"]),
        _at_threshold(name, cells, audit),
        _source_gap(name, audit),
    ]


def _lead(entry: Mapping[str, Any] | None) -> Tone:
    """Whether a difference with its interval is above 0, below 0, or neither for sure."""
    if entry is None or entry["ci_low"] is None:
        return "unclear"
    if entry["ci_low"] > 0:
        return "good"
    return "bad" if entry["ci_high"] < 0 else "unclear"


def _difference(kind: str, entry: Mapping[str, Any] | None) -> str:
    """One comparison with the best trivial rival, in numbers."""
    where = {"raw": "Over all slices", "matched": "Among slices of similar area and position"}[kind]
    if entry is None or entry["difference"] is None:
        return f"{where} it could not be compared."
    interval = span(entry["ci_low"], entry["ci_high"])
    interval = f", 95 % interval {interval}" if interval else ", no interval"
    return (
        f"{where} its AUROC is {number(entry['value'])} against {number(entry['rival_value'])} for "
        f"{_rival(entry['rival'])} (difference {signed(entry['difference'])}{interval})."
    )


def _rival(name: str) -> str:
    return score_label(name).removeprefix("Trivial: ")


def _against_rivals(name: str, audit: Mapping[str, Any]) -> Statement:
    """Whether the decision score beats the best rival that no model was trained for."""
    label = score_label(name)
    if is_trivial(name):
        return Statement("unclear", f"The decision score is itself trivial: {label}.", "")
    entry = audit["comparisons"].get(name, {})
    raw, matched = entry.get("raw"), entry.get("matched")
    detail = f"{_difference('raw', raw)} {_difference('matched', matched)}"
    if raw is None and matched is None:
        return Statement("unclear", f"{label} could not be held against a trivial rival.", detail)
    tones = (_lead(raw), _lead(matched))
    rival = "the best trivial rival"
    headlines: dict[tuple[Tone, Tone], tuple[Tone, str]] = {
        ("good", "good"): ("good", f"{label} beats {rival}, raw and matched."),
        ("good", "unclear"): (
            "unclear",
            f"{label} beats {rival} over all slices, but not for sure among similar slices.",
        ),
        ("good", "bad"): (
            "bad",
            f"{label} beats {rival} over all slices, and loses to it among similar slices.",
        ),
        ("unclear", "good"): (
            "unclear",
            f"{label} beats {rival} among similar slices, but not for sure over all slices.",
        ),
        ("unclear", "unclear"): ("unclear", f"{label} does not beat {rival} for sure."),
        ("unclear", "bad"): ("bad", f"{label} loses to {rival} among similar slices."),
        ("bad", "good"): (
            "bad",
            f"{label} loses to {rival} over all slices, and beats it among similar slices.",
        ),
        ("bad", "unclear"): ("bad", f"{label} loses to {rival} over all slices."),
        ("bad", "bad"): ("bad", f"{label} loses to {rival}, raw and matched."),
    }
    tone, headline = headlines[tones]
    return Statement(tone, headline, detail)


def _paper_score(cells: Cells, min_tumour_px: int) -> Statement:
    """Whether the paper's score reaches what the paper reports."""
    published = PUBLISHED[PAPER_SCORE][2]
    raw = cells.get(PAPER_SCORE, "auroc", min_tumour_px)
    matched = cells.get(PAPER_SCORE, "auroc_matched", min_tumour_px)
    if np.isnan(raw.value):
        return Statement("unclear", "The paper's score has no AUROC in this run.", "")
    if raw.value >= published:
        sure, says = raw.ci_low >= published, "reaches"
        doubt = ", though its interval reaches below"
    else:
        sure, says = raw.ci_high < published, "does not reach"
        doubt = ", though its interval does"
    doubt = "" if sure or not raw.span else doubt
    tone: Tone = "unclear" if not sure else "good" if says == "reaches" else "bad"
    return Statement(
        tone,
        f"The paper's score {says} the paper's AUROC of {published:.2f}{doubt}.",
        f"AUROC {raw.text}{raw.bracket}; among slices of similar area and position "
        f"{matched.text}{matched.bracket}. The paper's figure is for other scans (BRATS-2015).",
    )


def _at_threshold(name: str, cells: Cells, audit: Mapping[str, Any]) -> Statement:
    """What verdicts find, and what they cost."""
    found = cells.get(name, "sensitivity", audit["min_tumour_px"])
    rates = audit["scores"].get(name, {}).get("false_positive_rates", [])
    if not rates or np.isnan(found.value):
        return Statement("unclear", "Verdicts could not be judged.", "")
    first = rates[0]
    free, target = first["tumour_free"], first["target"]
    wrong = free["value"]
    interval = percent_span(free["ci_low"], free["ci_high"])
    kept = wrong is not None and wrong <= target
    tone: Tone = "good" if kept and found.ci_low > ENOUGH_FOUND else "unclear"
    if free["ci_low"] is not None and free["ci_low"] > target:
        tone = "bad"
    headline = (
        f"At d* verdicts find {percent(found.value)} of tumour slices and wrongly call "
        f"{percent(wrong)} of tumour-free ones abnormal (target {percent(target)})."
    )
    share = percent_span(found.ci_low, found.ci_high)
    detail = (
        f"d* = {first['threshold']:.4g}, the {ordinal(first['percentile'])} percentile of healthy "
        f"validation slices. 95 % intervals: found {share or 'unknown'}, wrongly called "
        f"{interval or 'unknown'}. On healthy-source test slices "
        f"{percent(first['healthy']['value'])} are called abnormal."
    )
    return Statement(tone, headline, detail)


def _source_gap(name: str, audit: Mapping[str, Any]) -> Statement:
    """Whether the score tells the scanners apart."""
    entry = audit["scores"].get(name, {})
    raw = entry.get("source_gap_auroc", {"value": None})
    similar = entry.get("source_gap_auroc_matched", {"value": None})
    if raw["value"] is None:
        return Statement("unclear", "Whether the score sees the scanner could not be judged.", "")
    judged = similar if similar["value"] is not None else raw
    tone, headline = gap_words(judged)
    detail = (
        f"Tumour-free slices of the mixed source against healthy-source slices: AUROC "
        f"{number(raw['value'])}, among similar slices {number(similar['value'])}"
        f"{_bracket_of(judged)}. 0.5 is wanted: neither holds a tumour."
    )
    return Statement(tone, f"{score_label(name)} {headline}.", detail)


def _bracket_of(entry: Mapping[str, Any]) -> str:
    interval = span(entry.get("ci_low"), entry.get("ci_high"))
    return f" (95 % interval {interval})" if interval else ""


def gap_words(entry: Mapping[str, Any]) -> tuple[Tone, str]:
    """What a source-gap AUROC says, after the name of the score."""
    value, low, high = entry["value"], entry["ci_low"], entry["ci_high"]
    if value is None:
        return "unclear", "could not be judged"
    large = abs(value - 0.5) > CLEAR_GAP
    if low is None:
        return "unclear", "may see the source" if large else "shows no large gap between sources"
    if low <= 0.5 <= high:
        return (
            ("unclear", "may see the source, but this test cannot tell")
            if large
            else (
                "good",
                "shows no sign of telling the sources apart",
            )
        )
    return (
        ("bad", "tells the sources apart")
        if large
        else (
            "unclear",
            "tells the sources apart a little",
        )
    )


def caution(metrics: pd.DataFrame) -> str | None:
    """A warning when few subjects stand behind the numbers."""
    people = int(metrics["n_subjects"].max()) if len(metrics) else 0
    if people >= FEW_SUBJECTS:
        return None
    return (
        f"Only {people} test subjects stand behind these numbers: intervals over so few are rough, "
        "and tend to be too narrow."
    )
