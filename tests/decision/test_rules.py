"""Every rule keeps its false-positive rate, refuses what it cannot support, and reads back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from healthy_slices import simulated

from twinvae.config import DecisionConfig
from twinvae.decision import RULES, calibrate, called, p_values, slice_thresholds
from twinvae.errors import CalibrationError


def config(rule: str, *, unit: str = "auto", percentile: float = 95.0, **more) -> DecisionConfig:
    values = {"rule": rule, "unit": unit, "percentiles": (percentile,), "scan_percentile": 80.0}
    return DecisionConfig.model_validate(values | more)


def rates(table: pd.DataFrame, new: pd.DataFrame, options: DecisionConfig) -> tuple[float, float]:
    """False-positive rate in all new slices, and in the quarter with the smallest brains."""
    ((_, found),) = called(calibrate(table, options), new)
    small = (new["brain_px"] <= new["brain_px"].quantile(0.25)).to_numpy()
    return float(found.mean()), float(found[small].mean())


@pytest.fixture(scope="module")
def curved() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Level and spread rise in small brains, as scores do at the ends of the brain."""
    rng = np.random.default_rng(3)
    shape = {"trend": 2.0, "spread": 1.0, "between": 0.1}
    return simulated(60, 50, rng, **shape), simulated(200, 50, rng, **shape)


@pytest.mark.parametrize("unit", ["slice", "subject"])
@pytest.mark.parametrize("rule", RULES)
def test_the_rate_is_on_target_over_all_slices(curved, rule: str, unit: str) -> None:
    overall, _ = rates(*curved, config(rule, unit=unit))
    assert overall == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("rule", ["size_binned", "size_quantile", "mondrian"])
def test_in_small_brains_rules_by_size_keep_the_rate_and_one_threshold_does_not(
    curved, rule: str
) -> None:
    for flat in ("percentile", "conformal"):
        assert rates(*curved, config(flat))[1] > 0.12
    assert rates(*curved, config(rule))[1] == pytest.approx(0.05, abs=0.02)


def test_a_line_is_enough_where_only_the_level_changes() -> None:
    rng = np.random.default_rng(4)
    both = simulated(60, 50, rng, trend=4.0), simulated(200, 50, rng, trend=4.0)
    assert rates(*both, config("percentile"))[1] > 0.12
    overall, small = rates(*both, config("size_linear"))
    assert overall == pytest.approx(0.05, abs=0.015)
    assert small == pytest.approx(0.05, abs=0.015)


def test_percentiles_of_a_line_by_hand() -> None:
    table = simulated(20, 10, np.random.default_rng(5), trend=3.0)
    result = calibrate(table, config("size_linear", percentile=90.0))
    size, score = table["brain_px"].to_numpy(), table["latent_l2"].to_numpy()
    design = np.column_stack([np.ones_like(size), size])
    line = design @ np.linalg.lstsq(design, score, rcond=None)[0]
    expected = line + np.percentile(score - line, 90)
    ((entry, bounds),) = slice_thresholds(result, table)
    np.testing.assert_allclose(bounds, expected, rtol=1e-9)
    assert bounds.min() < entry["threshold"] < bounds.max()
    # Beyond the areas seen the threshold stays where it was at the last of them.
    outside = table.iloc[:2].assign(brain_px=[size.min() - 500, size.max() + 500])
    ((_, ends),) = slice_thresholds(result, outside)
    np.testing.assert_allclose(ends, [bounds[size.argmin()], bounds[size.argmax()]])


def test_bins_hold_their_own_percentiles() -> None:
    table = simulated(20, 20, np.random.default_rng(6), trend=3.0)
    result = calibrate(table, config("size_binned", percentile=90.0, bins=3))
    edges = np.quantile(table["brain_px"], [1 / 3, 2 / 3])
    number = np.digitize(table["brain_px"], edges)
    own = [np.percentile(table["latent_l2"][number == b], 90) for b in range(3)]
    ((_, bounds),) = slice_thresholds(result, table)
    np.testing.assert_allclose(bounds, np.array(own)[number])


@pytest.mark.parametrize("rule", RULES)
def test_leaving_subjects_out_agrees_with_a_plain_loop(rule: str) -> None:
    table = simulated(8, 40, np.random.default_rng(7), trend=2.0, between=1.0)
    options = config(rule, percentile=80.0, bins=2, scan_percentile=50.0)
    wrong = 0
    for subject in table["subject"].unique():
        mine = table["subject"] == subject
        ((_, found),) = called(calibrate(table[~mine], options), table[mine])
        wrong += int(found.sum())
    entry = calibrate(table, options)["scores"]["latent_l2"]["slice"]["thresholds"][0]
    assert entry["cross_validated_fpr"] == wrong / len(table)


@pytest.mark.parametrize("rule", RULES)
def test_a_calibration_read_from_json_says_the_same(rule: str) -> None:
    rng = np.random.default_rng(8)
    table, new = (simulated(20, 30, rng, trend=2.0, spread=0.5) for _ in range(2))
    result = calibrate(table, config(rule, percentile=90.0, bins=2, position_bins=2))
    stored = json.loads(json.dumps(result, allow_nan=False))
    for one in (result, stored):
        ((_, found),) = called(one, new)
        ((_, bounds),) = slice_thresholds(one, new)
        assert (found == (new["latent_l2"].to_numpy() >= bounds)).mean() > 0.999  # but for rounding
        ranks = p_values(one, new)
        assert ((ranks > 0) & (ranks <= 1)).all()
        if RULES[rule].conformal:
            assert (found == (ranks <= 0.1 + 1e-9)).all()
    assert (p_values(result, new) == p_values(stored, new)).all()
    assert set(stored["rule"]) == {"name", "summary", "guarantee", "assumes", "source", "unit"}
    assert all(stored["rule"].values())


def test_few_subjects_are_refused_with_the_highest_percentile_they_support() -> None:
    table = simulated(15, 40, np.random.default_rng(9))
    with pytest.raises(CalibrationError) as error:
        calibrate(table, config("conformal", percentile=99.0))
    assert str(error.value) == (
        "percentile 99 needs at least 99 healthy validation subjects, found 15; "
        "the highest they support is 93.75"
    )
    calibrate(table, config("conformal", percentile=93.75))
    calibrate(table, config("conformal", unit="slice", percentile=99.0))
    with pytest.raises(CalibrationError, match="needs at least 20 healthy validation subjects"):
        calibrate(table, config("percentile", unit="subject"))
    with pytest.raises(
        CalibrationError,
        match=r"needs at least 100 healthy validation slices in bin 1 of 8 \(brain area below .*\),"
        r" found \d+; the highest they support is 98\.\d+",
    ):
        calibrate(table, config("size_binned", percentile=99.0, bins=8))
    with pytest.raises(CalibrationError, match=r"subjects in bin 1 of 4 \(brain area .*, position"):
        calibrate(table, config("mondrian", percentile=99.0, bins=2, position_bins=2))


@pytest.mark.parametrize("rule", RULES)
def test_scores_that_do_not_vary_are_no_error(rule: str) -> None:
    table = simulated(20, 20, np.random.default_rng(10)).assign(latent_l2=1.0)
    result = calibrate(table, config(rule, percentile=90.0, bins=2))
    ((_, found),) = called(result, table)
    # Percentiles call what reaches them; a rank among equals is never small.
    assert found.all() != RULES[rule].conformal


@pytest.mark.parametrize("rule", ["size_linear", "size_binned", "size_quantile", "mondrian"])
def test_area_is_mm2_where_grids_are_known_and_they_must_then_be_known(rule: str) -> None:
    table = simulated(20, 20, np.random.default_rng(11), trend=2.0).assign(spacing_mm=2.0)
    result = calibrate(table, config(rule, percentile=90.0, bins=3, position_bins=1))
    assert result["size"] == "brain_mm2"
    finer = table.assign(brain_px=table["brain_px"] * 4, spacing_mm=1.0)  # the same brains
    assert (called(result, finer)[0][1] == called(result, table)[0][1]).all()
    assert (p_values(result, finer) == p_values(result, table)).all()
    with pytest.raises(CalibrationError, match="expected the column spacing_mm"):
        called(result, table.drop(columns="spacing_mm"))


def test_thresholds_by_pixels_are_not_held_against_scans_of_known_grids() -> None:
    table = simulated(20, 20, np.random.default_rng(11), trend=2.0)
    pixels = calibrate(table, config("size_linear", percentile=90.0))
    assert pixels["size"] == "brain_px"
    called(pixels, table)
    with pytest.raises(CalibrationError, match=r"depend on brain_mm2, found .* brain_px"):
        called(pixels, table.assign(spacing_mm=1.0))
    flat = calibrate(table, config("percentile", percentile=90.0))
    assert (called(flat, table.assign(spacing_mm=1.0))[0][1] == called(flat, table)[0][1]).all()


def test_calibrations_of_earlier_versions_by_their_column_of_mm2_still_hold() -> None:
    table = simulated(20, 20, np.random.default_rng(11), trend=2.0).assign(spacing_mm=2.0)
    table["trivial_brain_area"] = table["brain_px"] * 4.0
    result = calibrate(table, config("size_linear", percentile=90.0))
    old = {**result, "size": "trivial_brain_area"}
    assert (called(old, table)[0][1] == called(result, table)[0][1]).all()


@pytest.mark.parametrize(
    ("rule", "unit", "subjects", "held"),
    [("conformal", "auto", 13, (92.85, 90.0)), ("conformal", "auto", 19, (95.0, 90.0)),
     ("percentile", "subject", 13, (92.3, 90.0)), ("percentile", "slice", 13, (95.0, 90.0)),
     ("conformal", "auto", 4, (80.0,))],
)  # fmt: skip
def test_too_few_subjects_hold_what_they_can_and_say_so(
    rule: str, unit: str, subjects: int, held: tuple[float, ...]
) -> None:
    table = simulated(subjects, 30, np.random.default_rng(7))
    more = {"unit": unit, "percentiles": (95.0, 90.0), "scan_rule": "conformal"}
    options = config(rule, **more, too_few="lower")
    found = calibrate(table, options)
    part = found["scores"]["latent_l2"]["slice"]["thresholds"]
    assert tuple(each["percentile"] for each in part) == held
    as_asked = held == (95.0, 90.0)
    assert ("lowered" in found) is not as_asked
    if as_asked:
        assert found == calibrate(table, config(rule, **more))
        return
    with pytest.raises(CalibrationError, match="needs at least"):
        calibrate(table, config(rule, **more))
    assert f"rest on {subjects} healthy subjects" in found["lowered"]
    assert f"{100 - held[0]:.3g} % of healthy slices" in found["lowered"]
    assert "(asked: 5 %)" in found["lowered"]


def test_where_nothing_can_be_held_it_is_refused_all_the_same() -> None:
    table = simulated(1, 30, np.random.default_rng(7))
    with pytest.raises(CalibrationError, match="support none"):
        calibrate(table, config("conformal", too_few="lower"))
