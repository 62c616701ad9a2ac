"""Plots show the numbers they are given; the drawn threshold is the one that verdicts use."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from twinvae.config import DecisionConfig
from twinvae.decision import calibrate, slice_thresholds
from twinvae.reporting.gallery import Gallery, figure_gallery
from twinvae.reporting.run_figures import (
    figure_area,
    figure_histograms,
    figure_training,
    slice_groups,
    threshold_curves,
)
from twinvae.reporting.style import as_png, residual_limit

LOG = [{"epoch": e, "elbo": -(9.0**-e), "val_elbo": None, "kl": 1.0 * e} for e in range(1, 31)]


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


def test_histograms_hold_every_slice_and_draw_the_threshold(fake: Any) -> None:
    figure = figure_histograms(fake.scores, ["residual_local"], fake.calibration, 50)
    axes = figure.axes[0]
    stairs = [patch for patch in axes.patches if isinstance(patch, mpl.patches.StepPatch)]
    assert len(stairs) == 6
    for patch in stairs:
        assert patch.get_data().values.sum() == pytest.approx(100)
    bound = fake.calibration["scores"]["residual_local"]["slice"]["thresholds"][0]["threshold"]
    assert [line.get_xdata()[0] for line in axes.lines] == [bound]
    groups = slice_groups(fake.scores, 50)
    assert (
        sum(int(mask.sum()) for mask in groups.values()) == (fake.scores["split"] == "test").sum()
    )


def test_slices_with_a_sliver_of_tumour_are_shown_apart(fake: Any) -> None:
    groups = slice_groups(fake.scores, 100)
    few = groups["mixed, 1 to 100 tumour pixels"]
    assert fake.scores.loc[few, "tumour_px"].between(1, 100).all()
    assert (fake.scores.loc[groups["mixed, tumour-free"], "tumour_px"] == 0).all()
    assert list(slice_groups(fake.scores, 0)) == [
        "healthy source", "mixed, tumour-free", "mixed, tumour"
    ]  # fmt: skip
    figure = figure_area(fake.scores, "residual_local", fake.calibration, 100)
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes]
    assert titles == list(groups)


def test_training_curves_are_the_logs(fake: Any) -> None:
    figure = figure_training({"VAE-H": LOG, "VAE": [{"epoch": 1, "elbo": 1.0, "kl": 2.0}]})
    elbo = figure.axes[0].lines[0]
    np.testing.assert_array_equal(elbo.get_xdata(), np.arange(1, 31))
    np.testing.assert_allclose(elbo.get_ydata(), [row["elbo"] for row in LOG])
    assert len(figure.axes[0].lines) == 1  # no validation curve without validation
    assert figure.axes[1].lines[0].get_marker() == "o"  # a single epoch is seen


def test_figures_say_so_when_there_is_nothing_to_draw(fake: Any) -> None:
    empty = Gallery(np.empty((0, 4, 4)), np.empty((0, 4, 4)), [])
    figures = [
        figure_area(fake.scores.assign(split="val"), "latent_l2", fake.calibration, 50),
        figure_histograms(fake.scores, [], fake.calibration, 50),
        figure_histograms(fake.scores.assign(split="val"), ["latent_l2"], fake.calibration, 50),
        figure_gallery(empty),
        figure_training({"VAE": []}),
    ]
    for figure in figures:
        assert any(text.get_text() for axes in figure.axes for text in axes.texts)
        assert as_png(figure).startswith(b"\x89PNG")
    assert residual_limit(np.empty(0)) == 0.05


def test_histograms_gather_half_a_per_cent_at_each_end(fake: Any) -> None:
    """The outermost bins hold what lies beyond; no more and no less than the module says."""
    name = "residual_local"
    figure = figure_histograms(fake.scores, [name], {"scores": {}}, 50)
    low, high = figure.axes[0].get_xlim()
    groups = slice_groups(fake.scores, 50).values()
    shown = fake.scores.loc[np.logical_or.reduce([mask.to_numpy() for mask in groups]), name]
    ends = np.percentile(shown, [0.5, 99.5])
    pad = 0.03 * (ends[1] - ends[0])
    assert (low, high) == pytest.approx((ends[0] - pad, ends[1] + pad))
