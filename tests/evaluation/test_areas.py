"""Slices of scans on different grids are compared by mm²: the same brains give the same figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_scores

from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate
from twinvae.errors import DataError
from twinvae.evaluation import audit, evaluate, over_seeds
from twinvae.reporting.roc_curves import RocCurves
from twinvae.scoring.table import area_unit, areas, check_scores, pixel_range_mm2

CONFIG = EvaluationConfig(min_tumour_px=(0,), headline_min_tumour_px=0, resamples=100)
NO_THRESHOLDS = {"decision_score": "latent_l2", "scores": {}}
GRIDS = {"healthy": 0.9375, "mixed": 1.0}
"""In-plane spacing in mm of the scans of a role, as real healthy and patients' scans have it."""


def on_grids(table: pd.DataFrame, spacing_mm: pd.Series) -> pd.DataFrame:
    """The same brains and tumours counted on other grids; the table's pixels are taken as mm²."""
    finer = {name: table[name] / spacing_mm**2 for name in ("brain_px", "tumour_px")}
    return table.assign(**finer, spacing_mm=spacing_mm)


def by_area_alone(people: int = 30, slices: int = 40, seed: int = 0) -> pd.DataFrame:
    """Healthy and mixed subjects of one anatomy, no tumours; the score is brain area with noise."""
    rng = np.random.default_rng(seed)
    n = 2 * people * slices
    position = np.tile(np.linspace(0, 1, slices), 2 * people)
    own = np.repeat(rng.normal(1, 0.05, 2 * people), slices)
    area = 15_000 * np.sin(np.pi * (0.1 + 0.8 * position)) * own
    role = np.repeat(["healthy", "mixed"], n // 2)
    table = pd.DataFrame(
        {
            "subject": np.repeat([f"s{i}" for i in range(2 * people)], slices),
            "source": role,
            "role": role,
            "split": "test",
            "slice": np.tile(np.arange(slices), 2 * people),
            "position": position,
            "brain_px": area,
            "tumour_px": 0.0,
            "latent_l2": area + rng.normal(0, 400, n),
        }
    )
    return on_grids(table, table["role"].map(GRIDS))


def test_identical_brains_on_two_grids_show_no_source_gap() -> None:
    table = by_area_alone()
    found = audit(check_scores(table), NO_THRESHOLDS, CONFIG)["scores"]["latent_l2"]
    for kind in ("matched", "adjusted"):
        gap = found[f"source_gap_auroc_{kind}"]
        assert gap["value"] == pytest.approx(0.5, abs=0.06)
        assert gap["ci_low"] < 0.5 < gap["ci_high"]


def test_compared_in_pixels_the_same_brains_look_like_another_scanner() -> None:
    table = by_area_alone().drop(columns="spacing_mm")
    gap = audit(check_scores(table), NO_THRESHOLDS, CONFIG)["scores"]["latent_l2"]
    assert gap["source_gap_auroc_adjusted"]["value"] > 0.9  # so the test above can fail


def test_a_score_of_area_alone_finds_no_tumours_where_tumours_have_a_grid_of_their_own() -> None:
    table = by_area_alone().assign(source="mixed", role="mixed")
    ill = table["spacing_mm"] == GRIDS["mixed"]
    table.loc[ill & table["slice"].mod(2).eq(0), "tumour_px"] = 400.0
    values = {}
    for unit, shown in (("mm2", table), ("px", table.drop(columns="spacing_mm"))):
        metrics = evaluate(check_scores(shown), NO_THRESHOLDS, CONFIG)
        chosen = metrics[(metrics["subset"] == "mixed") & (metrics["level"] == "slice")]
        values[unit] = chosen.set_index("metric")["value"]
    for metric in ("auroc_matched", "auroc_adjusted"):
        assert values["mm2"][metric] == pytest.approx(0.5, abs=0.06)
        assert values["px"][metric] > 0.6


@pytest.fixture(scope="module")
def one_grid() -> pd.DataFrame:
    table = simulated_scores(gap=0.5)
    return check_scores(table.assign(spacing_mm=1.0))


@pytest.fixture(scope="module")
def many_grids(one_grid: pd.DataFrame) -> pd.DataFrame:
    """Every other subject's pixels half as wide; a power of two, so areas stay equal exactly."""
    fine = one_grid["subject"].str[1:].astype(int).mod(2).eq(0)
    return on_grids(one_grid, fine.map({True: 0.5, False: 1.0}))


@pytest.mark.parametrize("rule", ["percentile", "size_linear", "size_binned", "mondrian"])
def test_every_figure_is_the_same_on_other_grids(
    one_grid: pd.DataFrame, many_grids: pd.DataFrame, rule: str
) -> None:
    decision = DecisionConfig(rule=rule, percentiles=(80.0,), scan_percentile=70.0, bins=2,
                              position_bins=1)  # fmt: skip
    first, second = calibrate(one_grid, decision), calibrate(many_grids, decision)
    assert first == second
    assert first["size"] == "brain_mm2"
    pd.testing.assert_frame_equal(
        evaluate(one_grid, first, CONFIG), evaluate(many_grids, second, CONFIG)
    )
    found, again = (audit(t, first, CONFIG) for t in (one_grid, many_grids))
    assert found["support"].pop("pixel_mm2") == [1.0, 1.0]
    assert again["support"].pop("pixel_mm2") == [0.25, 1.0]
    assert found == again


def test_seeds_and_curves_are_the_same_on_other_grids(
    one_grid: pd.DataFrame, many_grids: pd.DataFrame
) -> None:
    pd.testing.assert_frame_equal(over_seeds([one_grid], CONFIG), over_seeds([many_grids], CONFIG))
    curves = []
    for table in (one_grid, many_grids):
        curve = RocCurves(table[table["role"] == "mixed"], 0, CONFIG, 0).adjusted("latent_l2")
        assert curve is not None
        curves.append(curve)
    np.testing.assert_array_equal(curves[0].found, curves[1].found)


def test_areas_are_in_the_unit_they_say(many_grids: pd.DataFrame) -> None:
    mm2 = many_grids["brain_px"] * many_grids["spacing_mm"] ** 2
    assert area_unit(many_grids) == "mm2"
    np.testing.assert_array_equal(areas(many_grids, "brain"), mm2)
    unknown = many_grids.assign(tumour_px=np.nan)
    assert np.isnan(areas(unknown, "tumour")).all()
    pixels = many_grids.drop(columns="spacing_mm")
    assert area_unit(pixels) == "px"
    np.testing.assert_array_equal(areas(pixels, "tumour"), many_grids["tumour_px"])
    assert pixel_range_mm2(pixels) is None
    assert pixel_range_mm2(many_grids) == (0.25, 1.0)


def test_without_spacing_the_figures_stand_but_their_unit_is_said(one_grid: pd.DataFrame) -> None:
    pixels = one_grid.drop(columns="spacing_mm")
    known, unknown = (audit(t, NO_THRESHOLDS, CONFIG) for t in (one_grid, pixels))
    assert unknown["scores"] == known["scores"]  # one grid of 1 mm
    assert [w for w in unknown["warnings"] if w not in known["warnings"]] == [
        "The scores table has no column spacing_mm, so areas were compared in pixels: matched and "
        "adjusted AUROCs, strata by size and the source gap hold only if all scans share one "
        "in-plane grid."
    ]
    assert unknown["support"]["pixel_mm2"] is None
    subsets = evaluate(pixels, NO_THRESHOLDS, CONFIG)["subset"].unique()
    assert {"size_px:0-100", "size_px:100-400"} <= set(subsets)


@pytest.mark.parametrize(
    ("value", "says"),
    [("0", "above 0, found '0'"), ("", "a number, found nothing"), ("inf", "finite number")],
)
def test_a_spacing_that_is_none_is_named(value: str, says: str) -> None:
    table = simulated_scores(healthy=1, mixed=1, slices=3).assign(spacing_mm="1.0")
    table.loc[1, "spacing_mm"] = value
    with pytest.raises(DataError, match=f"line 3, column spacing_mm: expected .*{says}"):
        check_scores(table)
