"""Parts of the audit: rates by position and source, p-values, drift, warnings, regression."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_scores
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate, called
from twinvae.errors import DataError
from twinvae.evaluation import audit
from twinvae.evaluation.audit import drift, warnings
from twinvae.evaluation.confusion import p_value_calibration
from twinvae.evaluation.resampling import multiplicities
from twinvae.evaluation.rivals import which_slice
from twinvae.evaluation.subsets import known_mixed, sample_of

CONFIG = EvaluationConfig(min_tumour_px=(50,), resamples=200)


@pytest.mark.parametrize("rule", ["percentile", "size_linear"])
def test_false_positive_rates_by_position_and_source(rule: str) -> None:
    second = simulated_scores(healthy=0, mixed=9, seed=9, gap=2.0).assign(source="other_site")
    table = pd.concat([simulated_scores(), second], ignore_index=True)
    calibration = calibrate(
        table, DecisionConfig(percentiles=(95.0, 80.0), scan_percentile=70.0, rule=rule)
    )
    result = audit(table, calibration, CONFIG)["scores"]["latent_l2"]["false_positive_rates"]
    test = table[table["split"] == "test"]
    groups = {
        "healthy": test[test["role"] == "healthy"],
        "tumour_free": test[(test["role"] == "mixed") & (test["tumour_px"] == 0)],
    }
    assert [rate["percentile"] for rate in result] == [95.0, 80.0]
    for where, rows in groups.items():
        for rate, (_, abnormal) in zip(result, called(calibration, rows, "latent_l2"), strict=True):
            assert rate[where]["value"] == pytest.approx(abnormal.mean())
            third = np.minimum((rows["position"] * 3).astype(int), 2).to_numpy()
            for number, name in enumerate(("first", "middle", "last")):
                found = rate["by_position"][where][name]
                assert found["value"] == pytest.approx(abnormal[third == number].mean())
            sources = rate["by_source"][where]
            assert set(sources) == set(rows["source"])
            for source, found in sources.items():
                mine = abnormal[(rows["source"] == source).to_numpy()]
                assert found["value"] == pytest.approx(mine.mean())
                assert found["ci_low"] <= found["value"] <= found["ci_high"]
    free = result[0]["by_source"]["tumour_free"]
    assert free["other_site"]["ci_low"] > free["mixed_site"]["ci_high"]  # the gap of 2 shows


def test_p_values_by_hand_and_at_their_level() -> None:
    draws = np.ones((5, 2))
    found = p_value_calibration([0.01, 0.04, 0.2, 0.9], np.array([0, 0, 1, 1]), draws)
    assert found["rates"]["0.01"]["value"] == 0.25
    assert found["rates"]["0.05"]["value"] == 0.5
    assert found["ks"] == pytest.approx(0.55)  # after 0.2: 3/4 of them, 0.2 wanted
    assert p_value_calibration([], np.empty(0, dtype=int), draws)["ks"] is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        p_value_calibration([0.5, 1.5], np.array([0, 1]), draws)


def test_uniform_p_values_of_subjects_keep_their_rates() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(50), 40)
    found = p_value_calibration(rng.random(2000), subject, multiplicities(50, 500, 0))
    assert found["ks"] < 0.04
    rate = found["rates"]["0.05"]
    assert rate["ci_low"] < 0.05 < rate["ci_high"]
    small = p_value_calibration(rng.random(2000) ** 2, subject, multiplicities(50, 500, 0))
    assert small["rates"]["0.05"]["ci_low"] > 0.05
    assert small["ks"] == pytest.approx(0.25, abs=0.05)


def test_audit_gives_p_values_near_uniform_on_exchangeable_healthy_subjects() -> None:
    table = simulated_scores(healthy=60, mixed=12)
    decision = DecisionConfig(percentiles=(95.0,), scan_percentile=70.0, rule="conformal")
    found = audit(table, calibrate(table, decision), CONFIG)["scores"]["latent_l2"]["p_values"]
    assert found["healthy"]["ks"] < 0.15
    assert found["healthy"]["rates"]["0.05"]["value"] < 0.1


def test_drift_by_hand() -> None:
    scans = pd.DataFrame(
        {
            "subject": list("abcdef"),
            "session": "",
            "source": ["h1", "h1", "h2", "h2", "m", "m"],
            "role": ["healthy"] * 4 + ["mixed"] * 2,
            "split": "test",
            "p50": [1.0, 3.0, 1.0, 3.0, 11.0, 13.0],
            "spacing": 1.0,
        }
    )
    found = {(row["source"], row["statistic"]): row for row in drift(scans)}
    shifted = found["m", "p50"]
    assert (shifted["n"], shifted["n_healthy"], shifted["ks"]) == (2, 4, 1.0)
    spread = np.sqrt((2 + 4 / 3) / 2)
    assert shifted["standardised_difference"] == pytest.approx(10 / spread)
    assert found["h1", "p50"]["ks"] == 0.0
    assert found["h1", "p50"]["n_healthy"] == 2  # the other healthy source only
    assert found["m", "spacing"]["standardised_difference"] is None
    assert drift(scans)[0] == shifted
    with pytest.raises(DataError, match="scans: missing column role"):
        drift(scans.drop(columns="role"))


@pytest.mark.parametrize(
    ("here", "there", "difference", "ks"),
    [
        ([5.0, 9.0], [1.0, 2.0], 5.5 / np.sqrt((8 + 0.5) / 2), 1.0),
        ([2.0, 3.0], [1.0, 2.0, 9.0], -1.5 / np.sqrt((0.5 + 19) / 2), 1 / 3),
        ([1.0, 2.0, 6.0], [2.0, 4.0, 6.0, 8.0], -2 / np.sqrt((7 + 20 / 3) / 2), 5 / 12),
        ([5.0], [1.0, 2.0, 3.0], None, 1.0),
        ([5.0, 7.0], [6.0], None, 0.5),
        ([5.0], [5.0], None, 0.0),
        ([4.0, 4.0], [4.0, 4.0], None, 0.0),
        ([4.0, 4.0, np.nan], [np.inf, 1.0, 3.0], 2.0, 1.0),  # what is not finite is left out
    ],
)
def test_difference_of_two_sources_by_hand(
    here: list[float], there: list[float], difference: float | None, ks: float
) -> None:
    sources = ["m"] * len(here) + ["h"] * len(there)
    roles = ["mixed"] * len(here) + ["healthy"] * len(there)
    (found,) = drift(pd.DataFrame({"source": sources, "role": roles, "p50": here + there}))
    assert (found["source"], found["statistic"]) == ("m", "p50")
    counts = [int(np.isfinite(values).sum()) for values in (here, there)]
    assert [found["n"], found["n_healthy"]] == counts
    assert found["standardised_difference"] == pytest.approx(difference)
    assert found["ks"] == pytest.approx(ks)


def test_drift_is_sorted_by_distance_then_source_then_statistic() -> None:
    scans = pd.DataFrame(
        {
            "source": ["b", "b", "a", "a", "h", "h"],
            "role": ["mixed"] * 4 + ["healthy"] * 2,
            "z": [1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
            "far": [8.0, 9.0, 1.0, 9.0, 1.0, 2.0],
            "y": [1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
        }
    )
    assert [(row["source"], row["statistic"], row["ks"]) for row in drift(scans)] == [
        ("b", "far", 1.0), ("a", "far", 0.5),
        ("a", "y", 0.0), ("a", "z", 0.0), ("b", "y", 0.0), ("b", "z", 0.0),
    ]  # fmt: skip


def test_audit_holds_drift_when_scans_are_given(table: pd.DataFrame) -> None:
    nothing = {"decision_score": "latent_l2", "scores": {}}
    scans = table.groupby(["source", "role"], as_index=False).agg(area=("brain_px", "mean"))
    assert audit(table, nothing, CONFIG)["drift"] == []
    assert audit(table, nothing, CONFIG, scans=scans)["drift"][0]["statistic"] == "area"


def test_regression_on_which_slice_it_is_agrees_with_folds_written_out() -> None:
    rows = known_mixed(simulated_scores(), "test")
    rows = rows[rows["subject"].isin([f"s{n:02d}" for n in range(1, 6)])]
    sample = sample_of(rows)
    positive = sample.positive(50)
    found = which_slice(sample, positive, multiplicities(5, 50, 0))
    assert found["folds"] == 5
    score = np.empty(len(rows))
    plain = np.column_stack([sample.position, sample.log_area])
    for one in range(5):  # five subjects in five folds: leave one out
        test = sample.subject == one
        z = (plain - plain[~test].mean(axis=0)) / plain[~test].std(axis=0)
        terms = np.column_stack([z, z[:, 0] ** 2, z[:, 0] * z[:, 1], z[:, 1] ** 2])
        model = LogisticRegression().fit(terms[~test], positive[~test])
        score[test] = model.decision_function(terms[test])
    assert found["value"] == pytest.approx(roc_auc_score(positive, score), abs=1e-3)


def test_regression_needs_both_classes_and_two_subjects() -> None:
    sample = sample_of(known_mixed(simulated_scores(mixed=4), "test"))
    draws = multiplicities(4, 10, 0)
    for positive in (np.zeros(120, bool), np.ones(120, bool), sample.subject == 1):
        assert which_slice(sample, positive, draws) is None
    alone = sample_of(known_mixed(simulated_scores(mixed=1), "test"))
    assert which_slice(alone, alone.positive(50), draws[:, :1]) is None


def test_warnings_say_what_is_too_little(table: pd.DataFrame) -> None:
    nothing = {"decision_score": "latent_l2", "scores": {}}
    result = audit(table, nothing, CONFIG)
    rows = table[(table["role"] == "mixed") & (table["split"] == "test")]
    rests_on = result["support"]
    assert rests_on["tumour_slices"] == (rows["tumour_px"] > 50).sum()
    assert rests_on["tumour_subjects"] == rows.loc[rows["tumour_px"] > 50, "subject"].nunique()
    assert result["warnings"][0].startswith(f"Only {rests_on['tumour_subjects']} subjects have a ")
    enough = {
        "tumour_slices": 100,
        "placed_tumour_slices": 90,
        "tumour_subjects": 60,
        "tumour_free_subjects": 60,
        "adjusted_negatives": 12.0,
        "adjusted_subjects": 6.0,
        "pixel_mm2": [1.0, 1.0],
    }
    assert warnings(enough) == []
    for key, low, says in (
        ("placed_tumour_slices", 79, "79 of 100 tumour slices have"),
        ("adjusted_negatives", 9.0, "only 9.0 comparable"),
        ("adjusted_subjects", 4.0, "only 4.0 subjects"),
        ("tumour_free_subjects", 49, "49 subjects have a tumour-free slice"),
        ("pixel_mm2", None, "no column spacing_mm, so areas were compared in pixels"),
    ):
        (only,) = warnings({**enough, key: low})
        assert says in only
