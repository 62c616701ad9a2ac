"""Pixel-level metrics against scikit-learn and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from twinvae.config import EvaluationConfig
from twinvae.evaluation import METRICS_COLUMNS, MaskedSlices, evaluate_pixels
from twinvae.evaluation.resampling import tail_share

CONFIG = EvaluationConfig(min_tumour_px=(0, 50), resamples=200)


def cohort(n: int = 12, side: int = 24, seed: int = 0) -> tuple[np.ndarray, MaskedSlices]:
    """A map that sees tumours through noise, on every second row of a store of ``2 n`` slices."""
    rng = np.random.default_rng(seed)
    brain = np.zeros((2 * n, side, side), np.uint8)
    brain[:, 3:-3, 3:-3] = 1
    tumour = np.zeros_like(brain)
    tumour[::4, 6:12, 6:12] = 1
    tumour[::4, 0:2, 0:2] = 1  # outside the brain: must not count
    rows = np.arange(0, 2 * n, 2)
    values = rng.normal(size=(n, side, side)) + 1.5 * tumour[rows]
    index = pd.DataFrame({"source": "brats", "subject": [f"p{i // 3}" for i in range(n)]})
    return values.astype(np.float32), MaskedSlices(brain, tumour, rows, index)


def found(
    maps: np.ndarray, slices: MaskedSlices, config: EvaluationConfig = CONFIG
) -> pd.DataFrame:
    table = evaluate_pixels({"image_l1": maps}, slices, config)
    return table[table["subset"] == "mixed"].set_index("metric")


def test_metrics_agree_with_scikit_learn_and_brute_force() -> None:
    maps, slices = cohort()
    inside = slices.brain[slices.rows].astype(bool)
    score, truth = maps[inside], slices.tumour[slices.rows][inside].astype(bool)
    result = found(maps, slices)
    assert result.loc["auroc", "value"] == pytest.approx(roc_auc_score(truth, score), abs=1e-3)
    expected = average_precision_score(truth, score)
    assert result.loc["average_precision", "value"] == pytest.approx(expected, abs=5e-3)
    order = truth[np.argsort(-score)]
    dice = 2 * order.cumsum() / (np.arange(len(order)) + 1 + truth.sum())
    assert result.loc["dice_best", "value"] == pytest.approx(dice.max(), abs=5e-3)
    assert result.loc["prevalence", "value"] == pytest.approx(truth.mean())
    assert result.loc["auroc", "n_pos"] == truth.sum()
    assert result.loc["auroc", "n_neg"] == (~truth).sum()
    assert result.loc["auroc", "n_subjects"] == 4


def test_a_perfect_map_is_perfect_and_a_blank_one_is_chance() -> None:
    maps, slices = cohort()
    perfect = found(slices.tumour[slices.rows].astype(np.float32), slices)["value"]
    assert perfect[["auroc", "average_precision", "dice_best"]].tolist() == [1, 1, 1]
    blank = found(np.zeros_like(maps), slices)["value"]
    assert blank["auroc"] == 0.5
    assert blank["average_precision"] == pytest.approx(blank["prevalence"])


def test_rows_are_metrics_rows_with_intervals_over_subjects() -> None:
    maps, slices = cohort()
    table = evaluate_pixels({"image_l1": maps}, slices, CONFIG)
    assert tuple(table.columns) == METRICS_COLUMNS
    assert set(table["level"]) == {"pixel"}
    auroc = table[table["metric"] == "auroc"].iloc[0]
    assert auroc["ci_low"] < auroc["value"] < auroc["ci_high"]
    pd.testing.assert_frame_equal(table, evaluate_pixels({"image_l1": maps}, slices, CONFIG))
    none = found(maps, slices, CONFIG.model_copy(update={"resamples": 0}))
    assert np.isnan(none.loc["auroc", "ci_low"])


def test_interval_is_of_resampled_subjects() -> None:
    maps, slices = cohort()
    many = found(maps, slices, CONFIG.model_copy(update={"resamples": 2000})).loc["auroc"]
    people = slices.index["subject"].to_numpy()
    values = []
    for drawn in itertools.product(np.unique(people), repeat=4):  # every draw there is
        places = np.concatenate([np.flatnonzero(people == who) for who in drawn])
        inside = slices.brain[slices.rows[places]].astype(bool)
        truth = slices.tumour[slices.rows[places]][inside]
        if truth.any():
            values.append(roc_auc_score(truth, maps[places][inside]))
    wanted = np.quantile(values, [tail_share(4), 1 - tail_share(4)])
    np.testing.assert_allclose([many["ci_low"], many["ci_high"]], wanted, atol=0.01)


def test_without_tumour_pixels_nothing_is_claimed() -> None:
    maps, slices = cohort()
    healthy = MaskedSlices(slices.brain, np.zeros_like(slices.tumour), slices.rows, slices.index)
    result = found(maps, healthy)
    assert result.loc[["auroc", "average_precision", "dice_best"], "value"].isna().all()
    assert result["ci_low"].iloc[0] != result["ci_low"].iloc[0]
    nobody = MaskedSlices(slices.brain, slices.tumour, np.zeros(0, np.int64), slices.index.iloc[:0])
    assert found(maps[:0], nobody)["value"].isna().all()


def test_without_other_pixels_nothing_is_claimed_either() -> None:
    maps, slices = cohort()
    all_tumour = MaskedSlices(slices.brain, slices.brain, slices.rows, slices.index)
    result = found(maps, all_tumour)
    assert result.loc[["auroc", "average_precision", "dice_best"], "value"].isna().all()
    assert result.loc["prevalence", "value"] == 1


def test_sources_are_judged_apart_too() -> None:
    maps, slices = cohort()
    index = slices.index.assign(source=["a"] * 6 + ["b"] * 6)
    table = evaluate_pixels(
        {"m": maps}, MaskedSlices(slices.brain, slices.tumour, slices.rows, index), CONFIG
    )
    assert set(table["subset"]) == {"mixed", "mixed:a", "mixed:b"}
    counts = table[table["metric"] == "auroc"].set_index("subset")["n_pos"]
    assert counts["mixed"] == counts["mixed:a"] + counts["mixed:b"]
