"""The verdict on a run in plain language, computed from its numbers and never bent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from twinvae.evaluation.what_it_sees import BRAIN_SIZE, CLEAR_GAP, NOTHING, SCANNER, TUMOURS
from twinvae.reporting.metric_cells import AUROCS, Cells
from twinvae.reporting.text import number, ordinal, percent, percent_span, score_label, span
from twinvae.scoring.table import PAPER_SCORE, is_trivial

Tone = Literal["good", "bad", "unclear"]
SIGNS: dict[Tone, str] = {"good": "✓", "bad": "✗", "unclear": "≈"}
"""How the tone of a statement is shown."""
PUBLISHED = {PAPER_SCORE: (0.74, 0.76, 0.74), "image_l2": (0.64, 0.62, 0.65)}
"""Accuracy, F1 and AUROC that the paper's Table 1 gives, on BRATS-2015."""
ENOUGH_FOUND = 0.5
"""Verdicts count as good when they surely find more than this share of tumour slices, and wrongly
call no more tumour-free ones than intended."""
SEES_TONES: dict[str, Tone] = {TUMOURS: "good", SCANNER: "bad", BRAIN_SIZE: "bad"}
_MEANS = {
    TUMOURS: "Tumour slices score above tumour-free slices of the same brain area and position. "
    "Whether that is worth a model is its lead over the best score that nobody trained.",
    BRAIN_SIZE: "Most of what it achieves is to tell slices with much brain from slices at the "
    "brain's ends, where tumours are rare. Little is surely left among slices alike in both.",
    SCANNER: "It tells tumour-free slices of the mixed source from healthy-source slices of the "
    "same brain area and position more clearly than it tells tumours.",
    NOTHING: "Nothing that it does on these slices is surely better than chance.",
}
_BESIDE_RIVAL: dict[Tone, str] = {
    "good": ", and does so better than any trivial rival",
    "unclear": ", but not surely better than the best trivial rival",
    "bad": ", but worse than the best trivial rival",
}
_RIVAL_NOTE = "The rival is the one that does best on these very slices, which favours it."


def threshold_varies(entry: Mapping[str, Any] | None) -> bool:
    """Whether a calibrated score's threshold depends on the slice; ``entry``: of that score."""
    return bool(entry and entry["slice"].get("shape"))


@dataclass(frozen=True)
class Statement:
    """One sentence or two for a reader in a hurry."""

    tone: Tone
    headline: str
    detail: str


def verdict(
    metrics: pd.DataFrame, audit: Mapping[str, Any], calibration: Mapping[str, Any]
) -> list[Statement]:
    """What else the run showed, most important first."""
    name = calibration["decision_score"]
    cells = Cells(metrics)
    return [
        _against_rivals(name, audit),
        _source_gap(name, audit),
        *([_paper_score(cells, audit["min_tumour_px"])] if PAPER_SCORE in cells.scores else []),
    ]


def what_it_sees(name: str, audit: Mapping[str, Any]) -> Statement:
    """The verdict of the audit on the score ``name``, in plain language.

    Good only for a score that sees tumours and surely better than the best trivial rival does,
    both by adjusted AUROC.
    """
    entry = audit["scores"][name]
    sees, said = entry["sees"], entry["sees"].replace("this score", _plain(name))
    tone = SEES_TONES.get(sees, "unclear")
    if sees == TUMOURS and not is_trivial(name):
        tone = _lead(audit["comparisons"].get(name, {}).get("adjusted"))
        said += _BESIDE_RIVAL[tone]
    return Statement(tone, _sentence(said), _MEANS.get(sees, _sentence(entry["because"])))


def _plain(name: str) -> str:
    return score_label(name).removeprefix("Trivial: ")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _lead(entry: Mapping[str, Any] | None) -> Tone:
    """Whether a difference with its interval is above 0, below 0, or neither for sure."""
    if entry is None or entry["ci_low"] is None:
        return "unclear"
    if entry["ci_low"] > 0:
        return "good"
    return "bad" if entry["ci_high"] < 0 else "unclear"


def _against_rivals(name: str, audit: Mapping[str, Any]) -> Statement:
    """Whether the decision score beats the best rival that no model was trained for."""
    label, rival = _plain(name), "the best trivial rival"
    if is_trivial(name):
        return Statement("unclear", f"The decision score is itself trivial: {label}.", "")
    leads = {kind: audit["comparisons"].get(name, {}).get(kind) for kind in AUROCS}
    if not any(leads.values()):
        return Statement("unclear", f"{label} could not be held against a trivial rival.", "")
    kinds: dict[Tone, list[str]] = {"good": [], "unclear": [], "bad": []}
    for kind, lead in leads.items():
        kinds[_lead(lead)].append(kind)
    said = [tone for tone, found in kinds.items() if found]
    if len(said) == 1:
        which = _listed(list(AUROCS), "or" if said[0] == "unclear" else "and")
        verb = {"good": "beats", "bad": "loses to", "unclear": "does not surely beat"}[said[0]]
        return Statement(said[0], f"{label} {verb} {rival}, {which}.", _RIVAL_NOTE)
    how = {"good": "ahead", "unclear": "undecided", "bad": "behind"}
    parts = "; ".join(f"{how[tone]} {_listed(kinds[tone])}" for tone in said)
    tone: Tone = "bad" if kinds["bad"] else "unclear"
    return Statement(tone, f"{label} against {rival}: {parts}.", _RIVAL_NOTE)


def _listed(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _paper_score(cells: Cells, min_tumour_px: int) -> Statement:
    """Whether the paper's score reaches what the paper reports."""
    published = PUBLISHED[PAPER_SCORE][2]
    raw = cells.get(PAPER_SCORE, "auroc", min_tumour_px)
    matched, adjusted = (
        cells.get(PAPER_SCORE, metric, min_tumour_px)
        for metric in ("auroc_matched", "auroc_adjusted")
    )
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
        f"AUROC raw {raw.text}{raw.bracket}, matched {matched.text}{matched.bracket}, adjusted "
        f"{adjusted.text}{adjusted.bracket}. The paper's figure is for other scans (BRATS-2015).",
    )


def at_threshold(
    metrics: pd.DataFrame, audit: Mapping[str, Any], calibration: Mapping[str, Any]
) -> Statement:
    """What verdicts find, and what they cost."""
    name, cells = calibration["decision_score"], Cells(metrics)
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
    varies = threshold_varies(calibration["scores"].get(name))
    where = " at median brain area (it depends on the slice)" if varies else ""
    detail = (
        f"d* = {first['threshold']:.4g}{where}, the {ordinal(first['percentile'])} percentile of "
        f"healthy validation. 95 % intervals: found {share or 'unknown'}, wrongly called "
        f"{interval or 'unknown'}. On healthy-source test slices "
        f"{percent(first['healthy']['value'])} are called abnormal."
        f"{_slivers(audit, first)}"
    )
    return Statement(tone, headline, detail)


def _slivers(audit: Mapping[str, Any], rate: Mapping[str, Any]) -> str:
    """What verdicts say of slices with too little tumour to be tumour slices, if there are any."""
    count = audit["n"]["sliver_slices"]
    if not count:
        return ""
    return (
        f" Of the {count} slices of 1 to {audit['min_tumour_px']} tumour pixels, which count as "
        f"neither here, {percent(rate['sliver']['value'])} are called abnormal."
    )


def _source_gap(name: str, audit: Mapping[str, Any]) -> Statement:
    """Whether the score tells the scanners apart; judged as the audit's verdict judges it."""
    entry = audit["scores"][name]
    raw, matched, adjusted = (
        entry[f"source_gap_auroc{end}"] for end in ("", "_matched", "_adjusted")
    )
    if raw["value"] is None:
        return Statement("unclear", "Whether the score sees the scanner could not be judged.", "")
    judged = adjusted if adjusted["ci_low"] is not None else matched
    tone, headline = gap_words(judged)
    detail = (
        f"Tumour-free slices of the mixed source against healthy-source slices: AUROC raw "
        f"{number(raw['value'])}, matched {number(matched['value'])}, adjusted "
        f"{number(adjusted['value'])}{_bracket_of(judged)}. 0.5 is wanted: neither holds a tumour. "
        f"The raw one also tells where in the brain the slices lie."
    )
    return Statement(tone, _sentence(f"{_plain(name)} {headline}"), detail)


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
    if not low <= 0.5 <= high:
        return (
            ("bad", "tells the sources apart")
            if large
            else ("unclear", "tells the sources apart a little")
        )
    if large:
        return "unclear", "may see the source, but this test cannot tell"
    if max(high - 0.5, 0.5 - low) > CLEAR_GAP:
        return "unclear", "shows no sure sign of telling the sources apart"
    return "good", "shows no sign of telling the sources apart"


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
