"""Thresholds moved to a site: m₁ + (t − m₀) d₁ / d₀, for every rule that can be moved."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_decision import healthy

from twinvae.config import DecisionConfig
from twinvae.decision import calibrate, called, transfer
from twinvae.errors import CalibrationError

RULES = ("percentile", "conformal", "size_linear", "size_quantile")


def lower_spread(values: pd.Series) -> tuple[float, float]:
    median = np.median(values)
    return median, np.median(median - values[values < median])


@pytest.mark.parametrize("rule", RULES)
def test_scores_of_the_site_are_called_as_their_counterparts_at_home(rule: str) -> None:
    table = healthy(30, 20)
    table["brain_px"] = 100.0 + np.arange(len(table)) % 37
    options = DecisionConfig(rule=rule, percentiles=(90.0, 80.0), scan_percentile=80.0)
    calibration = calibrate(table, options)
    site = table.assign(latent_l2=2.5 * table["latent_l2"] - 7.0)
    moved = transfer(calibration, site)
    entry, own = moved["scores"]["latent_l2"], calibration["scores"]["latent_l2"]
    (m0, d0), (m1, d1) = lower_spread(table["latent_l2"]), lower_spread(site["latent_l2"])
    assert entry["transfer"]["factor"] == pytest.approx(d1 / d0) == pytest.approx(2.5)
    assert entry["transfer"]["shift"] == pytest.approx(m1 - m0 * d1 / d0) == pytest.approx(-7.0)
    for now, then in zip(entry["slice"]["thresholds"], own["slice"]["thresholds"], strict=True):
        assert now["threshold"] == pytest.approx(m1 + (then["threshold"] - m0) * d1 / d0)
        assert now["cross_validated_fpr"] is None
    assert entry["scan"]["threshold"] == pytest.approx(2.5 * own["scan"]["threshold"] - 7)
    at_home = [abnormal for _, abnormal in called(calibration, table, "latent_l2")]
    there = [abnormal for _, abnormal in called(moved, site, "latent_l2")]
    for here, away in zip(at_home, there, strict=True):
        assert np.mean(here == away) > 0.995  # a slice at its threshold may fall either side
        assert here.any()


def test_a_score_that_does_not_vary_is_only_shifted() -> None:
    table = healthy(10, 20)
    calibration = calibrate(table, DecisionConfig(percentiles=(90.0,), scan_percentile=80.0))
    moved = transfer(calibration, table.assign(trivial_flat=4.0))
    about = moved["scores"]["trivial_flat"]["transfer"]
    assert (about["shift"], about["factor"], about["scaled"]) == (3.0, 1.0, False)
    assert moved["scores"]["trivial_flat"]["slice"]["thresholds"][0]["threshold"] == 4.0
    assert moved["scores"]["latent_l2"]["transfer"]["scaled"]
    with pytest.raises(CalibrationError, match="latent_l2: expected slice scores that vary"):
        transfer(calibration, table.assign(latent_l2=1.0))
