"""The verdict follows the numbers: cases written down by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from twinvae.config import load_config
from twinvae.decision.fusion import FUSED
from twinvae.evaluation.what_it_sees import BRAIN_SIZE, NOTHING, SCANNER, TUMOURS, UNKNOWN
from twinvae.reporting.metric_cells import AUROCS
from twinvae.reporting.report_tables import (
    comparison_lines,
    drift_lines,
    p_value_lines,
    rate_lines,
    sees_lines,
)
from twinvae.reporting.text import number, ordinal, percent, percent_span, score_label, signed, span
from twinvae.reporting.wording import (
    at_threshold,
    gap_words,
    verdict,
    what_it_sees,
    which_slice_statement,
)
from twinvae.scoring.registry import SCORES
from twinvae.scoring.table import CONTEXT_SUFFIX

Ends = tuple[float | None, float | None]
NOWHERE: Ends = (None, None)
LABEL = "Difference from healthy version"


def with_leads(fake: Any, **ends: Ends) -> dict:
    audit = copy.deepcopy(fake.audit)
    for kind, (low, high) in ends.items():
        audit["comparisons"]["residual_local"][kind].update(ci_low=low, ci_high=high)
    return audit


def against_rivals(fake: Any, audit: dict) -> Any:
    return verdict(fake.metrics, audit, fake.calibration)[0]


def test_a_clear_lead_is_a_win(fake: Any) -> None:
    statement = against_rivals(fake, fake.audit)
    assert statement.tone == "good"
    assert statement.headline == (
        "Difference from healthy version beats the best trivial rival, raw, matched and adjusted."
    )


AHEAD, EVEN, BEHIND = (0.1, 0.2), (-0.1, 0.1), (-0.2, -0.1)


@pytest.mark.parametrize(
    ("raw", "matched", "adjusted", "tone", "said"),
    [
        (
            EVEN,
            EVEN,
            EVEN,
            "unclear",
            "does not surely beat the best trivial rival, raw, mat",
        ),
        (BEHIND, BEHIND, BEHIND, "bad", "loses to the best trivial rival, raw, matched and adj"),
        (AHEAD, EVEN, EVEN, "unclear", "rival: ahead raw; undecided matched and adjusted."),
        (AHEAD, AHEAD, BEHIND, "bad", "rival: ahead raw and matched; behind adjusted."),
        (EVEN, BEHIND, AHEAD, "bad", "rival: ahead adjusted; undecided raw; behind matched."),
        (NOWHERE, AHEAD, AHEAD, "unclear", "ahead matched and adjusted; undecided raw."),
    ],
)
def test_every_outcome_has_its_words(
    fake: Any, raw: Ends, matched: Ends, adjusted: Ends, tone: str, said: str
) -> None:
    audit = with_leads(fake, raw=raw, matched=matched, adjusted=adjusted)
    statement = against_rivals(fake, audit)
    assert (statement.tone, said in statement.headline) == (tone, True), statement.headline


@pytest.mark.parametrize(
    ("sees", "lead", "tone", "headline"),
    [
        (TUMOURS, AHEAD, "good", f"{LABEL} sees tumours, and does so better than any tri"),
        (TUMOURS, EVEN, "unclear", f"{LABEL} sees tumours, but not surely better than the"),
        (TUMOURS, BEHIND, "bad", f"{LABEL} sees tumours, but worse than the best trivial"),
        (BRAIN_SIZE, AHEAD, "bad", f"{LABEL} mostly sees brain size."),
        (SCANNER, AHEAD, "bad", f"{LABEL} mostly sees the scanner."),
        (NOTHING, EVEN, "unclear", f"{LABEL} sees nothing reliably."),
        (UNKNOWN, NOWHERE, "unclear", f"What {LABEL} sees could not be judged."),
    ],
)
def test_the_verdict_on_top_is_the_audits(
    fake: Any, sees: str, lead: Ends, tone: str, headline: str
) -> None:
    audit = with_leads(fake, adjusted=lead)
    audit["scores"]["residual_local"].update(sees=sees, because="no interval")
    statement = what_it_sees("residual_local", audit)
    assert (statement.tone, statement.headline.startswith(headline)) == (tone, True)
    assert statement.detail


def test_the_table_on_top_holds_the_audits_numbers(fake: Any) -> None:
    lines = list(comparison_lines(fake.audit, "residual_local"))
    assert [line["kind"] for line in lines] == ["raw", "matched", "adjusted"]
    for line in lines:
        lead = fake.audit["comparisons"]["residual_local"][line["kind"]]
        assert line["mine"].text == number(lead["value"])
        assert line["rival_cell"].text == number(lead["rival_value"])
        assert line["rival"] == score_label(lead["rival"]).removeprefix("Trivial: ")
        assert line["lead"] == signed(lead["difference"])
        assert line["lead_span"] == span(lead["ci_low"], lead["ci_high"])
    alone = {**fake.audit, "comparisons": {}, "best_trivial": dict.fromkeys(AUROCS)}
    assert {line["lead"] for line in comparison_lines(alone, "residual_local")} == {"–"}


def test_a_trivial_score_is_named_without_its_mark(fake: Any) -> None:
    audit = copy.deepcopy(fake.audit)
    audit["scores"]["trivial_position"].update(sees=UNKNOWN, because="no interval")
    statement = what_it_sees("trivial_position", audit)
    assert statement.headline == "What place in the brain sees could not be judged."
    assert statement.detail == "No interval."


def test_other_peoples_scores_are_not_held_against_the_paper(fake: Any) -> None:
    others = fake.metrics[fake.metrics["score"] != "latent_l2"]
    headlines = [each.headline for each in verdict(others, fake.audit, fake.calibration)]
    assert len(headlines) == 2
    assert not any("paper" in headline for headline in headlines)


def test_no_rival_no_claim(fake: Any) -> None:
    audit = copy.deepcopy(fake.audit)
    audit["comparisons"]["residual_local"] = dict.fromkeys(AUROCS)
    assert "could not be held against" in against_rivals(fake, audit).headline
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
    statement = verdict(metrics, fake.audit, fake.calibration)[2]
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
    statement = at_threshold(fake.metrics, audit, fake.calibration)
    assert statement.tone == tone
    assert percent(wrong) in statement.headline
    few = fake.metrics.copy()
    few.loc[few["metric"] == "sensitivity", ["value", "ci_low", "ci_high"]] = [0.1, 0.05, 0.2]
    assert at_threshold(few, audit, fake.calibration).tone != "good"


@pytest.mark.parametrize(
    ("value", "low", "high", "tone"),
    [
        (0.52, 0.45, 0.58, "good"),
        (0.52, 0.45, 0.62, "unclear"),
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
        entry.update({key: nothing for key in entry if key.startswith("source_gap")})
        for rate in entry["false_positive_rates"]:
            rate["tumour_free"] = nothing
    metrics = fake.metrics.assign(value=float("nan"), ci_low=float("nan"), ci_high=float("nan"))
    audit["comparisons"] = {"residual_local": dict.fromkeys(AUROCS)}
    tones = {statement.tone for statement in verdict(metrics, audit, fake.calibration)}
    assert tones == {"unclear"}
    assert at_threshold(metrics, audit, fake.calibration).tone == "unclear"
    audit["which_slice"] = None
    assert "not known" in which_slice_statement(audit, "residual_local").headline


def test_the_source_gap_is_judged_as_the_audit_judges_it(fake: Any) -> None:
    audit = copy.deepcopy(fake.audit)
    audit["scores"]["residual_local"].update(
        source_gap_auroc={"value": 0.9, "ci_low": 0.8, "ci_high": 0.95},
        source_gap_auroc_matched={"value": 0.8, "ci_low": 0.7, "ci_high": 0.9},
        source_gap_auroc_adjusted={"value": 0.5, "ci_low": 0.45, "ci_high": 0.55},
    )
    assert verdict(fake.metrics, audit, fake.calibration)[1].tone == "good"
    lost = {"value": None, "ci_low": None, "ci_high": None}
    audit["scores"]["residual_local"]["source_gap_auroc_adjusted"] = lost
    assert verdict(fake.metrics, audit, fake.calibration)[1].tone == "bad"  # the matched one


def test_thresholds_that_depend_on_the_slice_are_said_to(fake: Any) -> None:
    said = at_threshold(fake.metrics, fake.audit, fake.calibration).detail
    assert "depends on the slice" not in said
    bent = copy.deepcopy(fake.calibration)
    bent["scores"]["residual_local"]["slice"]["shape"] = {"size_edges": [1000.0]}
    assert "depends on the slice" in at_threshold(fake.metrics, fake.audit, bent).detail


def test_every_score_has_its_verdict_and_every_threshold_its_rate(fake: Any) -> None:
    sees = sees_lines(fake.audit, "residual_local")
    assert len(sees) == 6
    assert (sees[0]["label"], sees[0]["sees"], sees[0]["tone"]) == (
        "Difference from healthy version",
        "sees tumours",
        "good",
    )
    entry = fake.audit["scores"]["residual_local"]
    assert sees[0]["cells"][2].value == entry["auroc"]["adjusted"]["value"]
    assert sees[0]["cells"][5].value == entry["source_gap_auroc_adjusted"]["value"]
    lines = rate_lines(fake.audit, "residual_local")
    assert [line["label"] for line in lines[:3]] == [
        LABEL,
        "",
        "Distance between encodings (paper)",
    ]
    assert len(lines) == 2 * 6


def test_a_rate_is_marked_only_when_surely_above_its_target(fake: Any) -> None:
    audit = copy.deepcopy(fake.audit)
    rate = audit["scores"]["residual_local"]["false_positive_rates"][0]
    for low, tone in ((0.02, "bad"), (0.005, ""), (None, "")):
        rate["tumour_free"] = {"value": 0.03, "ci_low": low, "ci_high": 0.05}
        assert rate_lines(audit, "residual_local")[0]["rates"][1]["tone"] == tone


def test_p_values_drift_and_which_slice_are_shown(fake: Any) -> None:
    audit = copy.deepcopy(fake.audit)
    lines = p_value_lines(audit, "residual_local")
    found = audit["scores"]["residual_local"]["p_values"]["tumour_free"]
    assert lines[1]["ks"] == number(found["ks"], 2)
    assert lines[1]["rates"][1]["text"] == percent(found["rates"]["0.05"]["value"])
    audit["scores"]["residual_local"]["p_values"] = None
    assert p_value_lines(audit, "residual_local") == []
    row = {"source": "ixi", "statistic": "high_value", "standardised_difference": -1.5, "ks": 0.4}
    audit["drift"] = [row, {**row, "standardised_difference": None}]
    assert drift_lines(audit) == [
        ["ixi", "high value", "\N{MINUS SIGN}1.50", "0.40"],
        ["ixi", "high value", "–", "0.40"],
    ]
    said = which_slice_statement(fake.audit, "residual_local")
    assert number(fake.audit["which_slice"]["value"]) in said.headline


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


def test_every_score_has_a_name_of_its_own() -> None:
    """A run may hold each in context, too; whatever is named by hand fits in a figure."""
    names = [*SCORES, FUSED]
    labels = [score_label(name) for one in names for name in (one, f"{one}{CONTEXT_SUFFIX}")]
    assert len(set(labels)) == len(labels)
    by_hand = [score_label(name) for name in names if score_label(name) != name.replace("_", " ")]
    assert len(by_hand) > 25
    assert all(len(f"{label}, smoothed") <= 45 for label in by_hand)
    best = load_config("best")
    assert score_label(best.decision.score) == "Difference from 3 healthy versions, smoothed"
