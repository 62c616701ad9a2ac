"""The verdict follows the numbers: cases written down by hand."""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest

from twinvae.reporting.audit_table import audit_lines, audit_words
from twinvae.reporting.names import (
    number,
    ordinal,
    percent,
    percent_span,
    score_label,
    signed,
    span,
)
from twinvae.reporting.words import caution, gap_words, verdict


def changed(fake: Any, kind: str, **values: Any) -> dict:
    audit = copy.deepcopy(fake.audit)
    audit["comparisons"]["residual_local"][kind].update(values)
    return audit


def first(fake: Any, audit: dict) -> Any:
    return verdict(fake.metrics, audit, fake.calibration)[0]


def test_a_clear_lead_is_a_win_with_its_numbers(fake: Any) -> None:
    statement = first(fake, fake.audit)
    assert statement.tone == "good"
    assert statement.headline == "Local residual beats the best trivial rival, raw and matched."
    lead = fake.audit["comparisons"]["residual_local"]["matched"]
    for value in (lead["value"], lead["rival_value"], lead["ci_low"]):
        assert number(value) in statement.detail
    assert signed(lead["difference"]) in statement.detail
    assert score_label(lead["rival"]).removeprefix("Trivial: ") in statement.detail


@pytest.mark.parametrize(
    ("raw", "matched", "tone", "said"),
    [
        ((-0.1, 0.1), (-0.1, 0.1), "unclear", "does not beat the best trivial rival for sure"),
        ((0.1, 0.2), (-0.1, 0.1), "unclear", "but not for sure among similar slices"),
        ((0.1, 0.2), (-0.2, -0.1), "bad", "loses to it among similar slices"),
        ((-0.2, -0.1), (-0.2, -0.1), "bad", "loses to the best trivial rival, raw and matched"),
        ((-0.2, -0.1), (0.1, 0.2), "bad", "loses to the best trivial rival over all slices, and"),
        ((-0.2, -0.1), (-0.1, 0.1), "bad", "loses to the best trivial rival over all slices."),
        ((-0.1, 0.1), (0.1, 0.2), "unclear", "but not for sure over all slices"),
        ((-0.1, 0.1), (-0.2, -0.1), "bad", "loses to the best trivial rival among similar"),
        ((None, None), (0.1, 0.2), "unclear", "but not for sure over all slices"),
    ],
)
def test_every_outcome_has_its_words(
    fake: Any, raw: tuple, matched: tuple, tone: str, said: str
) -> None:
    audit = changed(fake, "raw", ci_low=raw[0], ci_high=raw[1])
    audit["comparisons"]["residual_local"]["matched"].update(ci_low=matched[0], ci_high=matched[1])
    statement = first(fake, audit)
    assert (statement.tone, said in statement.headline) == (tone, True)


def test_no_rival_no_claim(fake: Any) -> None:
    audit = copy.deepcopy(fake.audit)
    audit["comparisons"]["residual_local"] = {"raw": None, "matched": None}
    assert "could not be held against" in first(fake, audit).headline
    trivial = {**fake.calibration, "decision_score": "trivial_position"}
    assert "itself trivial" in verdict(fake.metrics, fake.audit, trivial)[0].headline


@pytest.mark.parametrize(
    ("value", "low", "high", "tone", "said"),
    [
        (0.80, 0.75, 0.85, "good", "reaches the paper's AUROC of 0.74."),
        (
            0.76,
            0.70,
            0.82,
            "unclear",
            "reaches the paper's AUROC of 0.74, though its interval reaches",
        ),
        (
            0.70,
            0.64,
            0.76,
            "unclear",
            "does not reach the paper's AUROC of 0.74, though its interval",
        ),
        (0.60, 0.55, 0.65, "bad", "does not reach the paper's AUROC of 0.74."),
        (0.60, None, None, "unclear", "does not reach the paper's AUROC of 0.74."),
        (None, None, None, "unclear", "has no AUROC"),
    ],
)
def test_the_papers_score_is_held_against_the_paper(
    fake: Any, value: float, low: float, high: float, tone: str, said: str
) -> None:
    metrics = fake.metrics.copy()
    row = (metrics["score"] == "latent_l2") & (metrics["metric"] == "auroc")
    metrics.loc[row, ["value", "ci_low", "ci_high"]] = [value, low, high]
    statement = verdict(metrics, fake.audit, fake.calibration)[1]
    assert (statement.tone, said in statement.headline) == (tone, True), statement.headline


@pytest.mark.parametrize(
    ("wrong", "low", "high", "tone"),
    [(0.01, 0.0, 0.02, "good"), (0.05, 0.03, 0.07, "bad"), (0.02, 0.005, 0.04, "unclear")],
)
def test_verdicts_are_good_only_within_their_promise(
    fake: Any, wrong: float, low: float, high: float, tone: str
) -> None:
    audit = copy.deepcopy(fake.audit)
    rate = audit["scores"]["residual_local"]["false_positive_rates"][0]
    rate["tumour_free"] = {"value": wrong, "ci_low": low, "ci_high": high}
    statement = verdict(fake.metrics, audit, fake.calibration)[2]
    assert statement.tone == tone
    assert percent(wrong) in statement.headline
    few = fake.metrics.copy()
    few.loc[few["metric"] == "sensitivity", ["value", "ci_low", "ci_high"]] = [0.1, 0.05, 0.2]
    assert verdict(few, audit, fake.calibration)[2].tone != "good"


@pytest.mark.parametrize(
    ("value", "low", "high", "tone"),
    [
        (0.52, 0.45, 0.58, "good"),
        (0.65, 0.45, 0.8, "unclear"),
        (0.56, 0.52, 0.59, "unclear"),
        (0.3, 0.2, 0.4, "bad"),
        (0.9, None, None, "unclear"),
        (None, None, None, "unclear"),
    ],
)
def test_source_gap_words(value: float, low: float, high: float, tone: str) -> None:
    assert gap_words({"value": value, "ci_low": low, "ci_high": high})[0] == tone


def test_unknown_truth_gives_no_verdict(fake: Any) -> None:
    nothing = {"value": None, "ci_low": None, "ci_high": None}
    audit = copy.deepcopy(fake.audit)
    for entry in audit["scores"].values():
        entry.update(source_gap_auroc=nothing, source_gap_auroc_matched=nothing)
        for rate in entry["false_positive_rates"]:
            rate["tumour_free"] = nothing
    metrics = fake.metrics.assign(value=float("nan"), ci_low=float("nan"), ci_high=float("nan"))
    audit["comparisons"] = {"residual_local": {"raw": None, "matched": None}}
    tones = {statement.tone for statement in verdict(metrics, audit, fake.calibration)}
    assert tones == {"unclear"}
    assert {statement.tone for statement in audit_words(audit, "residual_local")} == {"unclear"}


def test_a_broken_promise_outweighs_a_small_gap(fake: Any) -> None:
    audit = copy.deepcopy(fake.audit)
    entry = audit["scores"]["residual_local"]
    entry["source_gap_auroc_matched"] = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    rate = entry["false_positive_rates"][0]
    rate["tumour_free"] = {"value": 0.2, "ci_low": 0.1, "ci_high": 0.3}
    statement = audit_words(audit, "residual_local")[0]
    assert statement.tone == "bad"
    assert "20.0 % of tumour-free slices abnormal, more than the 1.0 % intended" in (
        statement.headline
    )
    rate["tumour_free"] = {"value": 0.001, "ci_low": 0.0, "ci_high": 0.002}
    assert audit_words(audit, "residual_local")[0].tone == "good"
    rate["tumour_free"] = {"value": 0.001, "ci_low": None, "ci_high": None}
    assert audit_words(audit, "residual_local")[0].tone == "unclear"


def test_audit_table_has_a_line_for_each_threshold(fake: Any) -> None:
    lines = audit_lines(fake.audit, "residual_local")
    assert len(lines) == 2 * 6
    assert [line["label"] for line in lines[:3]] == ["Local residual", "", "Latent L2 (paper)"]
    audit = copy.deepcopy(fake.audit)
    audit["scores"]["image_l2"]["false_positive_rates"] = []
    assert [c.text for c in audit_lines(audit, "residual_local")[4]["cells"][2:]] == ["–"] * 5


def test_few_subjects_are_said(fake: Any) -> None:
    assert "Only 12 test subjects" in str(caution(fake.metrics))
    assert caution(fake.metrics.assign(n_subjects=20)) is None
    assert "Only 0 test subjects" in str(caution(pd.DataFrame(columns=fake.metrics.columns)))


def test_numbers_for_readers() -> None:
    assert number(-0.12345) == "\N{MINUS SIGN}0.123"
    assert (number(None), number(float("nan")), percent(None)) == ("–", "–", "–")
    assert (percent(0.0123), signed(0.1, 2), span(0.1, 0.2, 1)) == ("1.2 %", "+0.10", "0.1 to 0.2")
    assert (span(None, 0.2), percent_span(None, 1.0), percent_span(0.01, 0.02)) == (
        "",
        "",
        "1.0 to 2.0 %",
    )
    assert [ordinal(p) for p in (99, 99.5, 91, 92, 93, 11)] == [
        "99th",
        "99.5th",
        "91st",
        "92nd",
        "93rd",
        "11th",
    ]
    assert score_label("my_score") == "my score"
