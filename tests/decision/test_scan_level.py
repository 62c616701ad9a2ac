"""Statistics of a scan by hand; error rates of scan-level thresholds and of marked slices."""

from __future__ import annotations

import numpy as np
import pytest
from healthy_slices import simulated
from scipy.stats import combine_pvalues, norm

from twinvae.config import DecisionConfig
from twinvae.decision import calibrate, discoveries, p_values, scan_verdict
from twinvae.decision.ranks import Ranks
from twinvae.decision.scans import STATISTICS, ScanSlices
from twinvae.errors import CalibrationError


def slices(**values) -> ScanSlices:
    p_value = np.array([0.5, 0.02, 0.04, 0.9, 0.03])
    given = {
        "score": np.array([1.0, 5.0, 4.0, 0.0, 3.0]),
        "number": np.array([7.0, 8, 9, 11, 12]),
        "called": np.array([False, True, True, True, True]),
        "p_value": p_value,
        "least": np.full(5, 1e-9),
    }
    return ScanSlices(**given | values)


def test_statistics_by_hand() -> None:
    found = {name: one.compute(slices(), 2) for name, one in STATISTICS.items()}
    assert (found["max"], found["top_mean"], found["longest_run"]) == (5.0, 4.5, 2.0)
    p_value = slices().p_value
    assert found["fisher"] == pytest.approx(combine_pvalues(p_value, "fisher").statistic)
    assert found["stouffer"] == pytest.approx(combine_pvalues(p_value, "stouffer").statistic)
    run = STATISTICS["longest_run"]
    assert run.compute(slices(called=np.zeros(5, bool)), 2) == 0
    assert run.compute(slices(called=np.ones(5, bool)), 2) == 3
    assert STATISTICS["top_mean"].compute(slices(), 99) == pytest.approx(13 / 5)
    least = slices(least=np.array([0.1, 0.02, 0.04, 0.2, 0.02]))
    by_hand = norm.ppf(1 - np.array([0.45, 0.01, 0.02, 0.8, 0.02])).sum() / np.sqrt(5)
    assert STATISTICS["stouffer"].compute(least, 2) == pytest.approx(by_hand)
    # A slice as normal as can be does not make Stouffer's sum infinite.
    assert np.isfinite(
        STATISTICS["stouffer"].compute(slices(p_value=np.ones(5), least=np.full(5, 0.1)), 2)
    )


def test_conformal_scan_threshold_keeps_its_rate_exactly() -> None:
    """19 healthy scans at 90 %: a new healthy scan is called with probability 2 / 20."""
    rng = np.random.default_rng(0)
    options = DecisionConfig(
        rule="conformal", unit="slice", percentiles=(80.0,), scan_rule="conformal"
    )
    rate = []
    for _ in range(120):
        table = simulated(19, 5, rng, between=2.0)
        bound = calibrate(table, options)["scores"]["latent_l2"]["scan"]["threshold"]
        new = simulated(300, 5, rng, between=2.0).groupby("subject")["latent_l2"].max()
        rate.append(float((new >= bound).mean()))
    error = 3 * np.std(rate) / np.sqrt(len(rate))
    assert np.mean(rate) == pytest.approx(0.1, abs=error)
    assert error < 0.025


@pytest.mark.parametrize("statistic", ["longest_run", "fisher", "stouffer"])
def test_statistics_of_p_values_keep_their_rate_nearly(statistic: str) -> None:
    rng = np.random.default_rng(1)
    options = DecisionConfig(percentiles=(80.0,), scan_rule="conformal", scan_statistic=statistic)
    rate = []
    for _ in range(40):
        result = calibrate(simulated(19, 8, rng, between=1.0), options)
        new = simulated(25, 8, rng, between=1.0)
        rate.append(np.mean([scan_verdict(result, s).abnormal for _, s in new.groupby("subject")]))
    error = 3 * np.std(rate) / np.sqrt(len(rate))
    assert np.mean(rate) <= 0.1 + 0.02 + error
    assert statistic == "longest_run" or np.mean(rate) >= 0.1 - 0.04 - error


def test_verdict_compares_the_chosen_statistic_with_its_own_threshold() -> None:
    table = simulated(20, 30, np.random.default_rng(2))
    options = DecisionConfig(
        percentiles=(90.0,), scan_statistic="top_mean", scan_rule="conformal", top_slices=3
    )
    result = calibrate(table, options)
    scan = table[table["subject"] == "h3"]
    means = table.groupby("subject")["latent_l2"].apply(lambda s: s.nlargest(3).mean())
    found = scan_verdict(result, scan.sample(frac=1, random_state=0))
    assert found.value == pytest.approx(means["h3"])
    assert found.threshold == np.nextafter(means.nlargest(2).iloc[-1], np.inf)
    assert found.p_value == pytest.approx((1 + (means >= means["h3"]).sum()) / 21)
    assert (found.highest, found.statistic) == (scan["latent_l2"].max(), "top_mean")
    with pytest.raises(
        CalibrationError, match=r"at least 9 healthy validation subjects \(scan lev"
    ):
        calibrate(simulated(8, 30, np.random.default_rng(2)), options)


@pytest.mark.parametrize("method", ["bh", "by"])
def test_false_discovery_rate_is_kept_with_conformal_p_values(method: str) -> None:
    """Benjamini–Hochberg promises level × share of healthy slices: 0.2 × 0.8."""
    rng = np.random.default_rng(3)
    false_share, power = [], []
    truth = np.arange(100) < 20
    for _ in range(600):
        healthy, new = rng.normal(size=400), rng.normal(size=100) + 3.0 * truth
        found = discoveries(Ranks.of(healthy, np.ones(400)).p_values(new), 0.2, method)
        false_share.append((found & ~truth).sum() / max(found.sum(), 1))
        power.append(found[truth].mean())
    error = 3 * np.std(false_share) / np.sqrt(len(false_share))
    assert np.mean(false_share) <= 0.2 * 0.8 + error
    assert np.mean(power) > (0.8 if method == "bh" else 0.3)
    if method == "bh":
        assert np.mean(false_share) > 0.2 * 0.8 - 0.03  # and uses what it may


def test_a_scan_without_tumour_is_rarely_marked() -> None:
    """Its slices share its subject's level, which is the dependence real slices have."""
    rng = np.random.default_rng(4)
    marked = []
    for _ in range(25):
        result = calibrate(simulated(100, 20, rng, between=0.5), DecisionConfig())
        ranks = p_values(result, simulated(300, 20, rng, between=0.5)).reshape(300, 20)
        marked.append(np.mean([discoveries(scan, 0.1, "bh").any() for scan in ranks]))
    assert np.mean(marked) <= 0.1 + 3 * np.std(marked) / np.sqrt(25)
