"""Thresholds against hand counts and brute force; refusals against the rule n >= 100/(100 - p)."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from twinvae.config import DecisionConfig
from twinvae.decision import Calibration, calibrate, called, p_values, scan_verdict
from twinvae.decision.cutoffs import highest_supported, needed_count, require_supported
from twinvae.decision.thresholds import FittedRule, Places
from twinvae.errors import CalibrationError


def healthy(subjects: int, slices: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = subjects * slices
    level = np.repeat(rng.normal(size=subjects), slices)
    return pd.DataFrame(
        {
            "subject": np.repeat([f"h{i}" for i in range(subjects)], slices),
            "source": "ixi",
            "role": "healthy",
            "split": "val",
            "slice": np.tile(np.arange(slices), subjects),
            "position": np.tile(np.linspace(0, 1, slices), subjects),
            "brain_px": 100.0,
            "tumour_px": 0.0,
            "latent_l2": rng.normal(size=n) + level,
            "trivial_flat": 1.0,
        }
    )


@pytest.mark.parametrize(
    ("percentile", "needed"), [(99.0, 100), (95.0, 20), (90.0, 10), (99.9, 1000), (50.0, 2)]
)
def test_needed_counts(percentile: float, needed: int) -> None:
    assert needed_count(percentile) == needed
    require_supported(percentile, needed, "slices")
    with pytest.raises(CalibrationError, match=f"found {needed - 1};"):
        require_supported(percentile, needed - 1, "slices")
    assert highest_supported(needed) == pytest.approx(percentile)


def test_highest_supported_is_supported() -> None:
    for count in (2, 3, 7, 13, 99, 333, 4001):
        require_supported(highest_supported(count), count, "slices")
    assert highest_supported(1) == 0.0


def test_thresholds_are_percentiles_of_healthy_validation_only() -> None:
    table = healthy(10, 20)
    other = table.assign(latent_l2=1e6)
    both = pd.concat(
        [
            table,
            other.assign(split="train", subject=other["subject"] + "t"),
            other.assign(split="test", subject=other["subject"] + "u"),
            other.assign(role="mixed", source="brats"),
            other.assign(role="mixed", source="brats", split="test"),
        ],
        ignore_index=True,
    )
    config = DecisionConfig(percentiles=(99.0, 95.0), scan_percentile=90.0)
    result = calibrate(both, config)
    ordered = np.sort(table["latent_l2"].to_numpy())
    at = 0.99 * (len(ordered) - 1)  # by hand: the point at (n - 1) p between order statistics
    low = int(at)
    by_hand = ordered[low] + (at - low) * (ordered[low + 1] - ordered[low])
    entry = result["scores"]["latent_l2"]
    assert entry["slice"]["thresholds"][0]["threshold"] == pytest.approx(by_hand, abs=1e-12)
    assert entry["slice"]["thresholds"][1]["threshold"] < by_hand
    assert (entry["n_slices"], entry["n_subjects"], entry["scan"]["n_scans"]) == (200, 10, 10)
    assert entry["slice"]["thresholds"][1]["target_fpr"] == 0.05
    highest = np.sort(table.groupby("subject")["latent_l2"].max())
    by_hand = highest[8] + 0.1 * (highest[9] - highest[8])
    assert entry["scan"]["threshold"] == pytest.approx(by_hand)
    json.dumps(result, allow_nan=False)


def test_cross_validated_rate_agrees_with_a_plain_loop() -> None:
    table = healthy(12, 15, seed=3)
    result = calibrate(table, DecisionConfig(percentiles=(90.0,), scan_percentile=80.0))
    wrong = 0
    for subject in table["subject"].unique():
        mine = table["subject"] == subject
        bound = np.quantile(table.loc[~mine, "latent_l2"], 0.9)
        wrong += int((table.loc[mine, "latent_l2"] >= bound).sum())
    entry = result["scores"]["latent_l2"]
    assert entry["slice"]["thresholds"][0]["cross_validated_fpr"] == wrong / len(table)
    # Clustered subjects: the rate in a new subject is above what the percentile promises.
    assert wrong / len(table) > 0.1
    highest = table.groupby("subject")["latent_l2"].max()
    wrong = sum(value >= np.quantile(highest.drop(s), 0.8) for s, value in highest.items())
    assert entry["scan"]["cross_validated_fpr"] == wrong / 12
    # A constant score calls everything abnormal, and says so.
    flat = result["scores"]["trivial_flat"]
    assert flat["slice"]["thresholds"][0]["cross_validated_fpr"] == 1.0


def test_too_few_healthy_slices_or_scans_are_refused() -> None:
    with pytest.raises(CalibrationError) as error:
        calibrate(healthy(11, 9), DecisionConfig(percentiles=(95.0, 99.0)))
    assert str(error.value) == (
        "percentile 99 needs at least 100 healthy validation slices, found 99; "
        "the highest they support is 98.98"
    )
    with pytest.raises(CalibrationError, match=r"found 9; the highest they support is 88.88"):
        calibrate(healthy(9, 20), DecisionConfig(scan_percentile=90.0))
    with pytest.raises(CalibrationError, match="found 0; they support none"):
        calibrate(healthy(9, 20).assign(split="train"), DecisionConfig())
    with pytest.raises(CalibrationError, match=r"decision\.score must be one of"):
        calibrate(healthy(9, 20), DecisionConfig(score="nope"))


def test_sessions_are_scans_of_their_own() -> None:
    first = healthy(10, 20).assign(session="1")
    both = pd.concat([first, first.assign(session="2")], ignore_index=True)
    entry = calibrate(both, DecisionConfig())["scores"]["latent_l2"]
    assert (entry["n_subjects"], entry["scan"]["n_scans"]) == (10, 20)


def test_one_subject_has_no_cross_validated_rate() -> None:
    result = calibrate(
        pd.concat([healthy(1, 60).assign(session=str(i)) for i in range(2)], ignore_index=True),
        DecisionConfig(percentiles=(90.0,), scan_percentile=50.0),
    )
    entry = result["scores"]["latent_l2"]["slice"]["thresholds"][0]
    assert entry["cross_validated_fpr"] is None


def test_verdicts_at_the_threshold_are_abnormal() -> None:
    result = calibrate(healthy(10, 20), DecisionConfig())
    d_star = result["scores"]["latent_l2"]["slice"]["thresholds"][0]["threshold"]
    three = healthy(1, 3).assign(latent_l2=[d_star - 1e-9, d_star, d_star + 1])
    assert called(result, three)[0][1].tolist() == [False, True, True]
    with pytest.raises(ValueError, match="NaN"):
        called(result, three.assign(latent_l2=np.nan))
    bound = result["scores"]["latent_l2"]["scan"]["threshold"]
    pair = healthy(1, 2)
    assert scan_verdict(result, pair.assign(latent_l2=[bound - 1, bound])).abnormal
    below = scan_verdict(result, pair.assign(latent_l2=[bound - 1, bound - 1e-9]))
    assert not below.abnormal
    assert (below.percentile, below.target_fpr, below.threshold) == (90.0, 0.1, bound)
    with pytest.raises(ValueError, match="at least one"):
        scan_verdict(result, pair.iloc[:0])
    with pytest.raises(CalibrationError, match="found 'nope'"):
        scan_verdict(result, pair, "nope")


def test_called_gives_every_threshold_its_rows() -> None:
    table = healthy(10, 20)
    result = calibrate(table, DecisionConfig(percentiles=(95.0, 90.0)))
    found = called(result, table, "latent_l2")
    assert [entry["percentile"] for entry, _ in found] == [95.0, 90.0]
    for entry, rows in found:
        assert rows.tolist() == (table["latent_l2"] >= entry["threshold"]).tolist()
    with pytest.raises(CalibrationError, match="found 'nope'"):
        called(result, table, "nope")


def test_many_scans_are_judged_by_one_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    table = healthy(10, 20)
    stored = json.loads(json.dumps(calibrate(table, DecisionConfig())))
    parse, parsed = FittedRule.from_json, []
    monkeypatch.setattr(
        FittedRule, "from_json", lambda values: parsed.append(values) or parse(values)
    )
    scans = [scan for _, scan in table.groupby("subject")]
    plain = [scan_verdict(stored, scan) for scan in scans]
    assert len(parsed) == len(scans)
    once = Calibration(stored)
    assert Calibration.of(once) is once
    assert dict(once) == stored
    assert [scan_verdict(once, scan) for scan in scans] == plain
    assert (p_values(once, table) == p_values(stored, table)).all()
    assert len(parsed) == len(scans) + 2


def test_verdicts_load_no_heavy_library() -> None:
    code = (
        "import sys, twinvae.decision; "
        "heavy = ('sklearn', 'scipy.stats', 'matplotlib', 'twinvae.evaluation'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_typical_slice_is_one_slice_of_median_size_and_position() -> None:
    places = Places(np.array([3.0, 1.0, 2.0, 9.0]), np.array([0.1, 0.9, 0.3, 0.5]))
    typical = places.typical()
    assert (typical.size.tolist(), typical.position.tolist()) == ([2.5], [0.4])
    chosen = places.only(np.array([True, False, False, True]))
    assert (chosen.size.tolist(), chosen.position.tolist()) == ([3.0, 9.0], [0.1, 0.5])
