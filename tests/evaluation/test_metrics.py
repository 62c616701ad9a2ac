"""``metrics.tsv`` recomputed from the scores table with scikit-learn, to 1e-9."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_scores
from sklearn import metrics as sk

from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate
from twinvae.errors import DataError
from twinvae.evaluation import METRICS_COLUMNS, evaluate, read_metrics, write_metrics
from twinvae.scoring.table import score_columns

DECISION = DecisionConfig(percentiles=(95.0, 80.0), scan_percentile=70.0)
CONFIG = EvaluationConfig(
    min_tumour_px=(0, 50, 100), resamples=200, match_log_area=0.15, match_position=0.08
)


@pytest.fixture(scope="module")
def calibration(table: pd.DataFrame) -> dict:
    return calibrate(table, DECISION)


@pytest.fixture(scope="module")
def result(table: pd.DataFrame, calibration: dict) -> pd.DataFrame:
    return evaluate(table, calibration, CONFIG)


def value(result: pd.DataFrame, **where: object) -> float:
    where = {"subset": "mixed", **where}
    chosen = np.logical_and.reduce([result[key] == wanted for key, wanted in where.items()])
    assert chosen.sum() == 1
    return float(result.loc[chosen, "value"].iloc[0])


def recomputed(truth: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, float]:
    called = score >= threshold
    return {
        "auroc": sk.roc_auc_score(truth, score),
        "average_precision": sk.average_precision_score(truth, score),
        "prevalence": truth.mean(),
        "accuracy": sk.accuracy_score(truth, called),
        "f1": sk.f1_score(truth, called),
        "sensitivity": sk.recall_score(truth, called),
        "specificity": sk.recall_score(~truth, ~called),
        "precision": sk.precision_score(truth, called, zero_division=np.nan),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
    }


@pytest.mark.parametrize("k", CONFIG.min_tumour_px)
def test_slice_metrics_agree_with_scikit_learn(
    table: pd.DataFrame, result: pd.DataFrame, calibration: dict, k: int
) -> None:
    rows = table[(table["role"] == "mixed") & (table["split"] == "test")]
    truth = (rows["tumour_px"] > k).to_numpy()
    for name in score_columns(table):
        bounds = calibration["scores"][name]["slice"]["thresholds"]
        where = {"level": "slice", "subset": "mixed", "min_tumour_px": k, "score": name}
        first = recomputed(truth, rows[name].to_numpy(), bounds[0]["threshold"])
        for metric, expected in first.items():
            found = value(result, **where, metric=metric)
            assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
        second = recomputed(truth, rows[name].to_numpy(), bounds[1]["threshold"])
        for metric in ("accuracy", "f1", "sensitivity", "specificity", "precision"):
            found = value(result, **where, metric=f"{metric}@80")
            assert found == pytest.approx(second[metric], abs=1e-9, nan_ok=True)


def test_subject_metrics_agree_with_scikit_learn(
    table: pd.DataFrame, result: pd.DataFrame, calibration: dict
) -> None:
    rows = table[(table["role"] == "mixed") & (table["split"] == "test")]
    people = rows.groupby("subject")[["tumour_px", "latent_l2"]].max()
    truth = (people["tumour_px"] > 50).to_numpy()
    assert 0 < truth.sum() < len(truth)
    bound = calibration["scores"]["latent_l2"]["scan"]["threshold"]
    for metric, expected in recomputed(truth, people["latent_l2"].to_numpy(), bound).items():
        found = value(result, level="subject", min_tumour_px=50, score="latent_l2", metric=metric)
        assert found == pytest.approx(expected, abs=1e-9)
    assert not result[(result["level"] == "subject")]["metric"].str.contains("matched").any()


def test_matched_auroc_agrees_with_a_loop_over_pairs(
    table: pd.DataFrame, result: pd.DataFrame
) -> None:
    rows = table[(table["role"] == "mixed") & (table["split"] == "test")]
    positive = rows[rows["tumour_px"] > 50]
    negative = rows[rows["tumour_px"] <= 50]
    pairs = positive.merge(negative, how="cross")
    area = np.abs(np.log(pairs["brain_px_x"]) - np.log(pairs["brain_px_y"])) < 0.15
    pairs = pairs[area & ((pairs["position_x"] - pairs["position_y"]).abs() < 0.08)]
    wins = (pairs["latent_l2_x"] > pairs["latent_l2_y"]).mean()
    ties = (pairs["latent_l2_x"] == pairs["latent_l2_y"]).mean()
    where = {"level": "slice", "min_tumour_px": 50, "score": "latent_l2"}
    matched = value(result, **where, metric="auroc_matched")
    assert matched == pytest.approx(wins + ties / 2, abs=1e-9)
    assert value(result, **where, metric="matched_pairs") == len(pairs) > 0
    row = result[(result["metric"] == "auroc_matched") & (result["min_tumour_px"] == 50)].iloc[0]
    assert row["n_neg"] == pairs[["subject_y", "slice_y"]].drop_duplicates().shape[0]


def test_table_is_tidy_counted_and_repeatable(
    table: pd.DataFrame, result: pd.DataFrame, calibration: dict
) -> None:
    assert tuple(result.columns) == METRICS_COLUMNS
    key = ["split", "level", "subset", "min_tumour_px", "score", "metric"]
    assert not result.duplicated(key).any()
    pd.testing.assert_frame_equal(result, evaluate(table, calibration, CONFIG))
    other = evaluate(table, calibration, CONFIG, seed=1)
    assert result["value"].equals(other["value"])
    assert not result["ci_low"].equals(other["ci_low"])
    given = result.dropna(subset=["ci_low"])
    assert ((given["ci_low"] <= given["ci_high"]) & given["ci_low"].notna()).all()
    auroc = given[given["metric"] == "auroc"]
    assert len(auroc) > 10
    assert ((auroc["ci_low"] <= auroc["value"]) & (auroc["value"] <= auroc["ci_high"])).all()
    assert set(result.loc[result["subset"] == "mixed", "n_subjects"]) == {16}


def test_healthy_source_and_unknown_slices_never_count(
    table: pd.DataFrame, result: pd.DataFrame, calibration: dict
) -> None:
    changed = table.copy()
    changed.loc[changed["role"] == "healthy", "latent_l2"] += 1000
    unknown = table[table["source"] == "mixed_site"].assign(
        subject="u", tumour_px=np.nan, latent_l2=99.0
    )
    again = evaluate(pd.concat([changed, unknown], ignore_index=True), calibration, CONFIG)
    pd.testing.assert_frame_equal(again, result)


def test_several_mixed_sources_stand_alone_too(table: pd.DataFrame, calibration: dict) -> None:
    second = simulated_scores(healthy=0, mixed=8, seed=9).assign(source="other_site")
    both = evaluate(pd.concat([table, second], ignore_index=True), calibration, CONFIG)
    sources = [name for name in both["subset"].unique() if name.startswith("mixed")]
    assert sources == ["mixed", "mixed:mixed_site", "mixed:other_site"]
    pooled = both[(both["subset"] == "mixed") & (both["metric"] == "auroc")]
    assert set(pooled["n_subjects"]) == {24}  # the same subject names in two sources are two people


@pytest.mark.parametrize("tumour", [0.0, 500.0, np.nan])
def test_missing_classes_leave_cells_empty(
    table: pd.DataFrame, calibration: dict, tumour: float
) -> None:
    changed = table.copy()
    changed.loc[changed["role"] == "mixed", "tumour_px"] = tumour
    result = evaluate(changed, calibration, CONFIG)
    for metric in ("auroc", "auroc_matched", "average_precision", "balanced_accuracy", "f1"):
        chosen = result[result["metric"] == metric]
        assert len(chosen)
        if not (metric == "f1" and tumour == 500.0):
            assert chosen[["value", "ci_low", "ci_high"]].isna().all(axis=None)


def test_scores_without_calibration_keep_their_ranks_only(
    table: pd.DataFrame, calibration: dict
) -> None:
    result = evaluate(table.assign(new_score=1.0), calibration, CONFIG)
    mine = result[(result["score"] == "new_score") & (result["level"] == "slice")]
    assert mine.loc[mine["metric"] == "accuracy", "value"].isna().all()
    assert mine.loc[mine["metric"] == "auroc", "value"].isin([0.5, np.nan]).all()
    assert value(mine, metric="auroc", min_tumour_px=50) == 0.5


def test_low_false_positive_rates_agree_with_scikit_learn(
    table: pd.DataFrame, result: pd.DataFrame
) -> None:
    rows = table[(table["role"] == "mixed") & (table["split"] == "test")]
    truth = rows["tumour_px"] > 50
    where = {"level": "slice", "min_tumour_px": 50, "score": "latent_l2"}
    partial = sk.roc_auc_score(truth, rows["latent_l2"], max_fpr=0.1)
    assert value(result, **where, metric="partial_auroc") == pytest.approx(partial, abs=1e-9)
    fpr, tpr, _ = sk.roc_curve(truth, rows["latent_l2"], drop_intermediate=False)
    found = value(result, **where, metric="sensitivity_at_specificity_95")
    assert found == pytest.approx(tpr[fpr <= 0.05].max(), abs=1e-9)


def test_adjusted_auroc_stands_beside_every_raw_one_with_what_it_rests_on(
    result: pd.DataFrame,
) -> None:
    slices = result[result["level"] == "slice"]
    key = ["subset", "min_tumour_px", "score"]
    kinds = {m: slices[slices["metric"] == m].set_index(key) for m in slices["metric"].unique()}
    for metric in ("auroc_matched", "auroc_adjusted", "adjusted_negatives", "adjusted_subjects"):
        assert kinds[metric].index.equals(kinds["auroc"].index)
    headline = ("mixed", 50)
    area = kinds["auroc_adjusted"].loc[(*headline, "trivial_brain_area")]
    assert area["ci_low"] < 0.5 < area["ci_high"]
    assert kinds["auroc"].loc[(*headline, "trivial_brain_area"), "ci_low"] > 0.7
    assert kinds["auroc_adjusted"].loc[(*headline, "latent_l2"), "ci_low"] > 0.6
    rests_on = kinds["adjusted_negatives"].loc[(*headline, "latent_l2")]
    assert 5 < rests_on["value"] < rests_on["n_neg"]


def test_strata_are_the_slices_they_name(table: pd.DataFrame, calibration: dict) -> None:
    graded = table.assign(
        grade=np.where(table["subject"] < "s08", "HGG", "LGG"),
        spacing_mm=np.where(table["subject"] < "s05", 1.5, 2.0),
    )
    config = CONFIG.model_copy(update={"size_strata_mm2": (40, 400, 800)})
    result = evaluate(graded, calibration, config)
    rows = graded[(graded["role"] == "mixed") & (graded["split"] == "test")]
    free, mm2 = rows["tumour_px"] <= 50, rows["tumour_px"] * rows["spacing_mm"] ** 2
    expected = {
        "size_mm2:112.5-400": free | (mm2 <= 400),  # from 50 pixels of the finest grid
        "size_mm2:400-800": free | ((mm2 > 400) & (mm2 <= 800)),
        "size_mm2:800-": free | (mm2 > 800),
        "position:first": rows["position"] < 1 / 3,
        "position:middle": (rows["position"] >= 1 / 3) & (rows["position"] < 2 / 3),
        "position:last": rows["position"] >= 2 / 3,
        "grade:HGG": rows["grade"] == "HGG",
        "grade:LGG": rows["grade"] == "LGG",
    }
    assert set(result["subset"]) == {"mixed", *expected}
    for subset, chosen in expected.items():
        part = rows[chosen]
        truth = part["tumour_px"] > 50
        mine = result[(result["subset"] == subset) & (result["score"] == "latent_l2")]
        assert set(mine["level"]) == {"slice"}
        assert set(mine["min_tumour_px"]) == {50}
        auroc = mine[mine["metric"] == "auroc"].iloc[0]
        assert (auroc["n_pos"], auroc["n_neg"]) == (truth.sum(), (~truth).sum())
        if truth.any() and not truth.all():
            wanted = sk.roc_auc_score(truth, part["latent_l2"])
            assert auroc["value"] == pytest.approx(wanted, abs=1e-9)


def test_no_resamples_no_intervals(table: pd.DataFrame, calibration: dict) -> None:
    config = CONFIG.model_copy(update={"resamples": 0})
    result = evaluate(table, calibration, config)
    assert result["ci_low"].isna().all()
    headline = result[(result["metric"] == "auroc") & (result["subset"] == "mixed")]
    assert headline["value"].notna().all()


def test_written_metrics_read_back_exactly(tmp_path: Path, result: pd.DataFrame) -> None:
    path = tmp_path / "metrics.tsv"
    write_metrics(path, result)
    pd.testing.assert_frame_equal(read_metrics(path), result, check_exact=True)
    with pytest.raises(DataError, match="no such file"):
        read_metrics(tmp_path / "none.tsv")
    path.write_text("split\tlevel\n")
    with pytest.raises(DataError, match="missing column subset"):
        read_metrics(path)
