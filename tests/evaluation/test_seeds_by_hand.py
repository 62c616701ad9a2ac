"""Several training seeds judged together, beside plain averages; small parts of the evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from simulated import simulated_scores
from sklearn.metrics import roc_auc_score

from twinvae.config import EvaluationConfig
from twinvae.errors import DataError
from twinvae.evaluation import audit, over_seeds, read_metrics
from twinvae.evaluation.audit import warnings
from twinvae.evaluation.auroc import auroc_covariance, auroc_difference
from twinvae.evaluation.confusion import p_value_calibration
from twinvae.evaluation.resampling import interval, multiplicities
from twinvae.evaluation.subsets import healthy_and_tumour_free

CONFIG = EvaluationConfig(min_tumour_px=(50,), headline_min_tumour_px=50, resamples=200)


def trained(count: int) -> list[pd.DataFrame]:
    """The same slices, scored by so many trainings."""
    table = simulated_scores(healthy=2, mixed=12, slices=10)
    rng = np.random.default_rng(3)
    return [
        table.assign(latent_l2=table["latent_l2"] + rng.normal(0, 0.5, len(table)))
        for _ in range(count)
    ]


def test_values_are_means_over_seeds_and_draws_of_subjects_and_seeds() -> None:
    tables = trained(3)
    found = over_seeds(tables, CONFIG, seed=4).set_index(["score", "metric"])
    rows = [t[(t["role"] == "mixed") & (t["split"] == "test")] for t in tables]
    truth = (rows[0]["tumour_px"] > 50).to_numpy()
    each = {
        name: [roc_auc_score(truth, part[name]) for part in rows]
        for name in ("latent_l2", "trivial_brain_area", "trivial_noise")
    }
    row = found.loc[("latent_l2", "auroc")]
    assert row["value"] == pytest.approx(np.mean(each["latent_l2"]))
    assert row["seed_sd"] == pytest.approx(np.std(each["latent_l2"], ddof=1))
    assert (row["seeds"], row["n_pos"], row["n_neg"]) == (3, truth.sum(), (~truth).sum())
    assert row["n_subjects"] == 12
    rival = max(("trivial_brain_area", "trivial_noise"), key=lambda name: np.mean(each[name]))
    assert row["rival"] == rival
    assert row["rival_value"] == pytest.approx(np.mean(each[rival]))
    assert row["difference"] == pytest.approx(row["value"] - row["rival_value"])

    who = rows[0]["subject"].astype("category").cat.codes.to_numpy()
    people, seeds = multiplicities(12, 200, 4), multiplicities(3, 200, 4, stream=1) / 3
    drawn = {name: [] for name in each}
    for times, share in zip(people, seeds, strict=True):
        for name, values in drawn.items():
            aurocs = [
                roc_auc_score(truth, part[name], sample_weight=times[who]) if s else 0.0
                for part, s in zip(rows, share, strict=True)
            ]
            values.append(float(np.dot(share, aurocs)))
    n = min(len(np.unique(who[truth])), len(np.unique(who[~truth])))
    low, high = interval(np.array(drawn["latent_l2"]), n)
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(low), pytest.approx(high))
    lead = interval(np.array(drawn["latent_l2"]) - np.array(drawn[rival]), n)
    assert row["difference_low"] == pytest.approx(lead[0])
    assert row["difference_high"] == pytest.approx(lead[1])


def test_one_seed_has_no_deviation_and_the_order_of_slices_does_not_matter() -> None:
    (table,) = trained(1)
    one = over_seeds([table], CONFIG)
    assert one["seed_sd"].isna().all()
    assert (one["seeds"] == 1).all()
    again = over_seeds([table.sample(frac=1, random_state=1)], CONFIG)
    pd.testing.assert_frame_equal(one, again)
    alone = table.drop(columns=["trivial_brain_area", "trivial_noise"])
    assert over_seeds([alone], CONFIG)["rival"].isna().all()


def test_the_seed_that_differs_is_named() -> None:
    tables = trained(3)
    tables[2] = tables[2].rename(columns={"latent_l2": "latent_l1"})
    said = r"seed 3: expected the scores of the first, found \['latent_l1', 'latent_l2'\] in one"
    with pytest.raises(DataError, match=said):
        over_seeds(tables, CONFIG)
    tables = trained(3)
    tables[1] = tables[1].iloc[1:] if tables[1]["role"].iloc[0] == "mixed" else tables[1].iloc[:-1]
    with pytest.raises(DataError, match=r"seed 2: expected the \d+ slices of the first"):
        over_seeds(tables, CONFIG)


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.tsv"
    for content in (b"", b"\xff\xfe\x00", b"a\tb\n1\t2\t3\t4\n5\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"metrics\.tsv: (expected a tab|missing column)"):
            read_metrics(path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_split_asked_for_alone_is_looked_at(split: str) -> None:
    table = simulated_scores()
    table["split"] = np.array(["train", "val", "test"])[np.arange(len(table)) % 3]
    healthy, free = healthy_and_tumour_free(table, split, 50)
    assert set(healthy["split"]) == set(free["split"]) == {split}
    assert (set(healthy["role"]), set(free["role"])) == ({"healthy"}, {"mixed"})
    assert len(healthy) == ((table["role"] == "healthy") & (table["split"] == split)).sum()
    assert free["tumour_px"].max() <= 50


def test_warnings_begin_just_below_their_limits() -> None:
    at_the_limit = {
        "tumour_slices": 100, "placed_tumour_slices": 80, "tumour_subjects": 50,
        "tumour_free_subjects": 50, "adjusted_negatives": 10.0, "adjusted_subjects": 5.0,
        "pixel_mm2": [1.0, 1.0],
    }  # fmt: skip
    assert warnings(at_the_limit) == []
    for key, value in at_the_limit.items():
        if key in ("tumour_slices", "pixel_mm2"):
            continue
        (said,) = warnings({**at_the_limit, key: value - 0.5})
        assert said
    none = {**at_the_limit, "tumour_slices": 0, "placed_tumour_slices": 0}
    assert warnings({**none, "adjusted_negatives": 0.0, "adjusted_subjects": 0.0}) == []
    assert warnings({**none, "pixel_mm2": None}) == []


def test_rates_of_p_values_at_their_levels() -> None:
    found = p_value_calibration([0.01, 0.05, 0.06, 1.0], np.zeros(4, int), np.ones((3, 1)))
    assert {level: rate["value"] for level, rate in found["rates"].items()} == {
        "0.01": 0.25, "0.05": 0.5,
    }  # fmt: skip
    assert p_value_calibration([], np.zeros(0, int), np.ones((3, 1)))["ks"] is None
    for bad in (-0.01, 1.01, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            p_value_calibration([bad], np.zeros(1, int), np.ones((3, 1)))


def test_a_difference_holds_both_aurocs_and_their_test_by_hand() -> None:
    rng = np.random.default_rng(2)
    positive = rng.random(80) < 0.4
    strong, weak = rng.normal(size=80) + 2 * positive, rng.normal(size=80) + 0.3 * positive
    found = auroc_difference(strong, weak, positive)
    aurocs, covariance = auroc_covariance([strong, weak], positive)
    assert (found.first, found.second) == tuple(aurocs)
    assert found.first == pytest.approx(roc_auc_score(positive, strong))
    assert found.second == pytest.approx(roc_auc_score(positive, weak))
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.standard_error == pytest.approx(error)
    assert found.z == pytest.approx((found.first - found.second) / error)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.z)))
    back = auroc_difference(weak, strong, positive)
    assert (back.z, back.p_value) == (pytest.approx(-found.z), pytest.approx(found.p_value))


def test_nothing_has_no_covariance() -> None:
    aurocs, covariance = auroc_covariance([np.empty(0)] * 2, np.empty(0, bool))
    assert aurocs.shape == (2,)
    assert covariance.shape == (2, 2)
    assert np.isnan(aurocs).all()
    assert np.isnan(covariance).all()


def test_an_uncalibrated_score_has_no_false_positive_rates() -> None:
    table = simulated_scores(healthy=6, mixed=6, slices=6)
    found = audit(table, {"decision_score": "latent_l2", "scores": {}}, CONFIG)["scores"]
    assert all(entry["false_positive_rates"] == [] for entry in found.values())
    assert all(entry["p_values"] is None for entry in found.values())
