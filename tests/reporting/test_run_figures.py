"""The drawn threshold is the one that verdicts use, whatever it depends on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from twinvae.config import DecisionConfig
from twinvae.decision import calibrate, slice_thresholds
from twinvae.reporting.run_figures import figure_area, threshold_curves


def calibrated(fake: Any, **settings: Any) -> dict[str, Any]:
    return calibrate(
        fake.scores, DecisionConfig(score="residual_local", percentiles=(90.0,), **settings)
    )


@pytest.mark.parametrize("rule", ["percentile", "size_linear", "size_quantile"])
def test_the_curve_is_the_threshold_of_every_slice(fake: Any, rule: str) -> None:
    calibration = calibrated(fake, rule=rule)
    ((area, value),) = threshold_curves(calibration, fake.scores, "residual_local")
    bounds = slice_thresholds(calibration, fake.scores, "residual_local")[0][1]
    drawn = np.interp(fake.scores["brain_px"] * 0.04, area, value)  # pixels of 2 mm to cm²
    np.testing.assert_allclose(drawn, bounds, atol=0.02)
    assert (np.ptp(value) > 0) == (rule != "percentile")


def test_a_threshold_by_position_too_is_drawn_for_each_bin(fake: Any) -> None:
    calibration = calibrated(fake, rule="mondrian", bins=1, position_bins=2)
    curves = threshold_curves(calibration, fake.scores, "residual_local")
    bounds = slice_thresholds(calibration, fake.scores, "residual_local")[0][1]
    assert sorted({float(value[0]) for _, value in curves}) == sorted(set(bounds.tolist()))
    assert len(curves) == 2


def test_areas_are_in_square_centimetres_where_they_are_known(fake: Any) -> None:
    for scores, factor, unit in (
        (fake.scores, 0.04, "cm²"),
        (fake.scores.drop(columns="spacing_mm"), 1.0, "pixels"),
    ):
        for rule in ("percentile", "size_linear"):
            options = DecisionConfig(score="residual_local", percentiles=(90.0,), rule=rule)
            calibration = calibrate(scores, options)
            ((area, _),) = threshold_curves(calibration, scores, "residual_local")
            assert area[-1] == pytest.approx(scores["brain_px"].max() * factor)
            figure = figure_area(scores, "residual_local", calibration, 50)
            assert unit in figure.axes[0].get_xlabel()
            dots = figure.axes[0].collections[0].get_offsets()
            healthy = scores.query("role == 'healthy' and split == 'test'")
            np.testing.assert_allclose(dots[:, 0], healthy["brain_px"] * factor)


def test_where_nothing_can_be_abnormal_nothing_is_drawn(fake: Any) -> None:
    calibration = calibrated(fake)
    calibration["scores"]["residual_local"]["slice"]["cutoffs"] = [[None]]
    ((_, value),) = threshold_curves(calibration, fake.scores, "residual_local")
    assert np.isnan(value).all()
    figure_area(fake.scores, "residual_local", calibration, 50).draw_without_rendering()


def test_every_slice_is_in_its_panel(fake: Any) -> None:
    figure = figure_area(fake.scores, "residual_local", calibrated(fake), 50)
    test = fake.scores[fake.scores["split"] == "test"]
    mixed = test[test["role"] == "mixed"]
    expected = [
        len(test) - len(mixed),
        int((mixed["tumour_px"] <= 50).sum()),
        int((mixed["tumour_px"] > 50).sum()),
    ]
    assert [len(axes.collections[0].get_offsets()) for axes in figure.axes] == expected
    assert all(f"of {n}" in a.get_title("left") for a, n in zip(figure.axes, expected, strict=True))


def test_without_thresholds_only_slices_are_drawn(fake: Any) -> None:
    nothing = {"decision_score": "residual_local", "scores": {}}
    assert threshold_curves(nothing, fake.scores, "residual_local") == []
    figure = figure_area(fake.scores, "residual_local", nothing, 50)
    assert "called" not in figure.axes[0].get_title("left")
