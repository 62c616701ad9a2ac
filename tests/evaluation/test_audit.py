"""The audit finds scanners and rivals where they were put."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_scores
from sklearn.metrics import roc_auc_score

from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate
from twinvae.evaluation import audit, evaluate
from twinvae.evaluation.what_it_sees import UNKNOWN

DECISION = DecisionConfig(percentiles=(95.0,), scan_percentile=70.0)
LENIENT = DecisionConfig(percentiles=(50.0,), scan_percentile=50.0)
CONFIG = EvaluationConfig(
    min_tumour_px=(50,), resamples=300, match_log_area=0.15, match_position=0.08
)


def test_source_gap_and_realised_rates_agree_with_plain_computation(table: pd.DataFrame) -> None:
    calibration = calibrate(table, DECISION)
    result = audit(table, calibration, CONFIG)
    test = table[table["split"] == "test"]
    healthy = test[test["role"] == "healthy"]
    free = test[(test["role"] == "mixed") & (test["tumour_px"] <= 50)]
    both = pd.concat([healthy, free])
    found = result["scores"]["latent_l2"]
    expected = roc_auc_score(both["role"] == "mixed", both["latent_l2"])
    assert found["source_gap_auroc"]["value"] == pytest.approx(expected, abs=1e-9)
    rates = found["false_positive_rates"][0]
    bound = calibration["scores"]["latent_l2"]["slice"]["thresholds"][0]["threshold"]
    assert rates["healthy"]["value"] == pytest.approx((healthy["latent_l2"] >= bound).mean())
    clean, slivers = free[free["tumour_px"] == 0], free[free["tumour_px"] > 0]
    assert rates["tumour_free"]["value"] == pytest.approx((clean["latent_l2"] >= bound).mean())
    assert len(slivers) > 0  # a few tumour pixels: no false alarms, counted apart
    assert rates["sliver"]["value"] == pytest.approx((slivers["latent_l2"] >= bound).mean())
    assert (rates["target"], rates["threshold"]) == (0.05, bound)
    assert result["n"] == {
        "healthy_slices": len(healthy),
        "healthy_subjects": 12,
        "tumour_free_slices": len(free),
        "tumour_free_subjects": 16,
        "sliver_slices": len(slivers),
    }


def test_source_gaps_interval_draws_healthy_and_mixed_subjects_apart() -> None:
    # Drawn from one pot, two healthy subjects are both left out of every eighth resample: too many
    # for an interval. Drawn apart, they never are.
    table = simulated_scores(healthy=4, mixed=40, slices=8)
    options = CONFIG.model_copy(update={"resamples": 2000})
    found = audit(table, calibrate(table, LENIENT), options, seed=5)
    assert (found["n"]["healthy_subjects"], found["n"]["tumour_free_subjects"]) == (2, 40)
    gap = found["scores"]["latent_l2"]["source_gap_auroc"]
    assert gap["ci_low"] is not None
    assert gap["ci_low"] < gap["value"] < gap["ci_high"]


def test_scanner_detector_is_caught() -> None:
    table = simulated_scores(gap=3.0)
    result = audit(table, calibrate(table, DECISION), CONFIG)
    gap = result["scores"]["latent_l2"]["source_gap_auroc"]
    assert gap["ci_low"] > 0.9
    rates = result["scores"]["latent_l2"]["false_positive_rates"][0]
    assert rates["tumour_free"]["value"] > 0.5 > rates["healthy"]["value"]
    noise = result["scores"]["trivial_noise"]["source_gap_auroc"]
    assert noise["ci_low"] < 0.5 < noise["ci_high"]


def test_comparison_with_the_best_rival_agrees_with_metrics(table: pd.DataFrame) -> None:
    calibration = calibrate(table, DECISION)
    result = audit(table, calibration, CONFIG)
    metrics = evaluate(table, calibration, CONFIG)
    slices = metrics[(metrics["level"] == "slice") & (metrics["subset"] == "mixed")]
    slices = slices.set_index(["metric", "score"])
    for kind in ("raw", "matched", "adjusted"):
        metric = "auroc" if kind == "raw" else f"auroc_{kind}"
        rivals = slices.loc[metric].filter(like="trivial_", axis=0)
        best = result["best_trivial"][kind]
        assert best["score"] == rivals["value"].idxmax()
        for key in ("value", "ci_low", "ci_high"):  # the same resamples, so the same interval
            assert best[key] == pytest.approx(rivals.loc[best["score"], key], abs=1e-12)
        lead = result["comparisons"]["latent_l2"][kind]
        mine = slices.loc[(metric, "latent_l2"), "value"]
        assert lead["difference"] == pytest.approx(mine - best["value"], abs=1e-12)
        assert lead["ci_low"] < lead["difference"] < lead["ci_high"]
        for key in ("value", "ci_low", "ci_high"):
            found = result["scores"]["latent_l2"]["auroc"][kind][key]
            assert found == pytest.approx(slices.loc[(metric, "latent_l2"), key], abs=1e-12)
    assert set(result["comparisons"]) == {"latent_l2"}


def test_no_lead_over_oneself(table: pd.DataFrame) -> None:
    copy = table.drop(columns="trivial_noise").assign(latent_l2=table["trivial_brain_area"])
    result = audit(copy, calibrate(copy, DECISION), CONFIG)
    lead = result["comparisons"]["latent_l2"]["raw"]
    assert (lead["difference"], lead["ci_low"], lead["ci_high"]) == (0.0, 0.0, 0.0)


def test_audit_is_json_with_nulls_where_nothing_can_be_said(table: pd.DataFrame) -> None:
    unknown = table.copy()
    unknown.loc[unknown["role"] == "mixed", "tumour_px"] = np.nan
    result = audit(unknown, calibrate(table, DECISION), CONFIG)
    json.dumps(result, allow_nan=False)
    nothing = dict.fromkeys(("raw", "matched", "adjusted"))
    assert result["best_trivial"] == nothing
    assert result["comparisons"] == {"latent_l2": nothing}
    assert result["which_slice"] is None
    found = result["scores"]["latent_l2"]
    assert found["source_gap_auroc"] == {"value": None, "ci_low": None, "ci_high": None}
    assert found["false_positive_rates"][0]["tumour_free"]["value"] is None
    assert found["p_values"]["tumour_free"]["ks"] is None
    assert found["sees"] == UNKNOWN
    without = audit(
        table.drop(columns=["trivial_noise", "trivial_brain_area"]),
        {"decision_score": "latent_l2", "scores": {}},
        CONFIG,
    )
    assert without["scores"]["latent_l2"]["false_positive_rates"] == []
