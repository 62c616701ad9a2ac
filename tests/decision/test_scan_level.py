"""Statistics of a scan by hand; error rates of scan-level thresholds and of marked slices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from healthy_slices import simulated
from scipy.stats import combine_pvalues, norm

from twinvae.config import DecisionConfig
from twinvae.decision import STATISTICS, calibrate, discoveries, p_values, scan_verdict
from twinvae.decision.apply import ScanSlices
from twinvae.decision.scan_level import ScanGroups, _entry
from twinvae.decision.thresholds import Ranks
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


def many(rule: str, percentile: float) -> tuple[np.ndarray, np.ndarray, DecisionConfig]:
    """Values and subjects of 700 scans, of which a subject has one to four; more than are kept."""
    rng = np.random.default_rng(5)
    subject = np.repeat(np.arange(280), rng.integers(1, 5, 280))[:700]
    options = DecisionConfig(scan_rule=rule, scan_percentile=percentile)
    return rng.normal(size=len(subject)), subject, options


@pytest.mark.parametrize("percentile", [33.0, 47.0, 61.0])
def test_scans_are_called_just_where_their_p_value_says_so(percentile: float) -> None:
    """The table of healthy values is thinned, but never at the value that sets the threshold."""
    values, subject, options = many("conformal", percentile)
    entry = _entry(values, subject, options)
    ranks = Ranks.from_json(entry["healthy"])
    assert len(ranks.value) < len(values) / 2
    last = values[values < entry["threshold"]].max()
    assert entry["threshold"] == np.nextafter(last, np.inf)
    weight = 1 / np.bincount(subject)[subject]
    exact = (1 + weight[values > last].sum()) / (weight.sum() + 1)
    reached, missed = ranks.p_values(np.array([entry["threshold"], last]))
    assert reached == pytest.approx(exact)
    assert entry["target_fpr"] == pytest.approx(1 - percentile / 100, abs=1e-12)
    assert reached <= 1 - percentile / 100 < missed


@pytest.mark.parametrize("rule", ["percentile", "conformal"])
def test_a_scan_entry_agrees_with_a_plain_loop(rule: str) -> None:
    values, subject, options = many(rule, 85.0)

    def cutoff(chosen: np.ndarray) -> float:
        if rule == "percentile":
            return float(np.percentile(values[chosen], 85))
        weight = 1 / np.bincount(subject[chosen])[subject[chosen]]
        p_value = np.array(
            [(1 + weight[values[chosen] >= v].sum()) / (weight.sum() + 1) for v in values[chosen]]
        )
        return float(np.nextafter(values[chosen][p_value > 0.15].max(), np.inf))

    entry = _entry(values, subject, options)
    assert entry["threshold"] == cutoff(np.ones(len(values), bool))
    wrong = sum((values[subject == s] >= cutoff(subject != s)).sum() for s in np.unique(subject))
    assert entry["cross_validated_fpr"] == wrong / len(values)
    assert (entry["n_scans"], entry["percentile"]) == (len(values), 85.0)
    assert entry["target_fpr"] == 0.15


def test_two_subjects_have_a_cross_validated_rate_and_one_has_none() -> None:
    options = DecisionConfig(scan_percentile=50.0)
    values = np.array([1.0, 2.0, 3.0, 10.0, 11.0])
    two = _entry(values, np.array([0, 0, 0, 4, 4]), options)
    assert two["cross_validated_fpr"] == 2 / 5  # 10 and 11 against 2; none reaches 10.5
    assert two["threshold"] == 3.0
    assert _entry(values, np.full(5, 4), options)["cross_validated_fpr"] is None


def test_rows_of_each_scan_are_in_the_order_of_their_slices() -> None:
    table = pd.DataFrame(
        {
            "source": ["a", "a", "b", "a", "a", "b"],
            "subject": ["x", "x", "x", "x", "y", "x"],
            "session": ["1", "2", "1", "1", "1", "1"],
            "slice": [9, 4, 7, 2, 5, 3],
        }
    )
    found = ScanGroups.of(table)
    assert [rows.tolist() for rows in found.rows] == [[3, 0], [1], [5, 2], [4]]
    assert found.number.tolist() == [9, 4, 7, 2, 5, 3]
    assert found.subject.tolist() == [0, 0, 1, 2]
    without = ScanGroups.of(table.drop(columns="session"))
    assert [rows.tolist() for rows in without.rows] == [[3, 1, 0], [5, 2], [4]]
    assert without.subject.tolist() == [0, 1, 2]


def test_runs_are_of_slices_called_at_the_first_percentile() -> None:
    table = simulated(20, 30, np.random.default_rng(6), between=1.0)
    options = DecisionConfig(
        percentiles=(95.0, 50.0), scan_statistic="longest_run", scan_percentile=80.0
    )
    result = calibrate(table, options)
    healthy = result["scores"]["latent_l2"]["scan_statistics"]["longest_run"]["healthy"]
    runs = []
    for subject in table["subject"].unique():
        mine = table["subject"] == subject
        bound = np.percentile(table.loc[~mine, "latent_l2"], 95)
        called = "".join("x" if c else " " for c in table.loc[mine, "latent_l2"] >= bound)
        runs.append(max(map(len, called.split()), default=0))
    assert healthy["value"] == sorted(set(runs), reverse=True)
    assert max(runs) > 1
