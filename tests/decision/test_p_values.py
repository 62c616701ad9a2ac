"""Conformal p-values against hand counts, brute force and the uniform distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from twinvae.decision.cutoffs import (
    conformal_cutoffs,
    highest_supported,
    percentile_cutoffs,
    require_supported,
    weights,
)
from twinvae.decision.thresholds import Ranks
from twinvae.errors import CalibrationError

A = np.array([0, 0, 1])  # two subjects, of two slices and of one


def test_p_values_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0])
    slices = Ranks.of(values, weights(A, "slice")[0])
    np.testing.assert_allclose(
        slices.p_values(np.array([0.0, 1, 1.5, 3, 4])), [1, 1, 0.75, 0.5, 0.25]
    )
    weight, count = weights(A, "subject")
    assert (weight.tolist(), count) == ([0.5, 0.5, 1.0], 2)
    people = Ranks.of(values, weight)
    # (1 + weight at or above) / 3: the second subject is 1, each slice of the first a half.
    expected = [3 / 3, 2.5 / 3, 2 / 3, 1 / 3]
    np.testing.assert_allclose(people.p_values(np.array([0.5, 1.5, 2.5, 3.5])), expected)
    assert Ranks.of(np.empty(0), np.empty(0)).p_values(np.array([7.0])).tolist() == [1.0]


def test_cutoffs_by_hand() -> None:
    values = np.arange(1.0, 10.0)  # nine: 10 p-values, 0.1 to 1
    ones = np.ones(9)
    ten, twenty = conformal_cutoffs(values, ones, (90.0, 80.0))
    assert (ten, twenty) == (np.nextafter(9, 10), np.nextafter(8, 9))
    assert conformal_cutoffs(values, ones, (95.0,)) == np.inf
    assert percentile_cutoffs(values, ones, (50.0,)) == 5
    # Weighted: the lowest value that holds 60 % of the weight: the first subject has half.
    assert percentile_cutoffs(
        np.array([1.0, 2, 3]), weights(A, "subject")[0], (50.0, 60.0)
    ).tolist() == [2, 3]
    # Weights of more than 1 are weights too: the first value holds half.
    assert percentile_cutoffs(np.array([1.0, 2, 3]), np.array([2.0, 1, 1]), (50.0,)) == 1


@pytest.mark.parametrize("unit", ["slice", "subject"])
@pytest.mark.parametrize("count", [150, 3000])
def test_p_values_agree_with_counting(unit: str, count: int) -> None:
    rng = np.random.default_rng(count)
    values, subject = rng.normal(size=count).round(2), rng.integers(0, 40, count)  # with ties
    weight, total = weights(subject, unit)
    percentiles = (90.0, 70.0)
    cutoffs = conformal_cutoffs(values, weight, percentiles)
    ranks = Ranks.of(values, weight, keep=np.nextafter(cutoffs, -np.inf))
    new = np.concatenate([rng.normal(size=2000), values[:500], values[:500] + 1e-9])
    exact = (1 + (weight * (values >= new[:, None])).sum(axis=1)) / (total + 1)
    found = ranks.p_values(new)
    assert (found >= exact - 1e-12).all()
    if len(np.unique(values)) <= 200:
        np.testing.assert_allclose(found, exact)
    else:
        assert np.abs(found - exact).max() < 0.02
    highest = new >= np.sort(np.unique(values))[-90]
    np.testing.assert_allclose(found[highest], exact[highest])
    for percentile, cutoff in zip(percentiles, cutoffs, strict=True):
        assert ((new >= cutoff) == (found <= 1 - percentile / 100 + 1e-9)).all()
        assert ((new >= cutoff) == (exact <= 1 - percentile / 100 + 1e-9)).all()


def test_p_values_of_exchangeable_subjects_are_uniform() -> None:
    rng = np.random.default_rng(0)
    repetitions, subjects = 4000, 99
    values = rng.gamma(2, size=(repetitions, subjects + 1))
    p_value = np.array([Ranks.of(v[1:], np.ones(subjects)).p_values(v[:1])[0] for v in values])
    smooth = p_value - rng.uniform(size=repetitions) / (subjects + 1)  # steps of 1 / 100 filled
    assert kstest(smooth, "uniform").pvalue > 0.01
    assert kstest(smooth**1.1, "uniform").pvalue < 0.01  # the test would see a small departure


def test_slices_of_few_subjects_are_no_sample_but_subjects_are() -> None:
    """A random slice of a new subject; eight healthy subjects of very different levels."""
    rng = np.random.default_rng(1)
    repetitions, subjects = 3000, 8
    sizes = rng.integers(5, 40, size=(repetitions, subjects))
    found = {"slice": np.empty(repetitions), "subject": np.empty(repetitions)}
    for i in range(repetitions):
        subject = np.repeat(np.arange(subjects), sizes[i])
        levels = 3 * rng.normal(size=subjects + 1)
        values = levels[subject] + rng.normal(size=len(subject))
        new = levels[-1:] + rng.normal(size=1)
        for unit, p_value in found.items():
            p_value[i] = Ranks.of(values, weights(subject, unit)[0]).p_values(new)[0]
    error = 3 * np.sqrt(0.25 / repetitions)
    assert (found["slice"] <= 0.05).mean() > 0.09
    for alpha in (0.05, 0.15, 0.25, 0.5):
        rate = (found["subject"] <= alpha).mean()
        assert rate <= alpha + error
        assert rate >= alpha - 1 / (subjects + 1) - error


def test_a_long_table_keeps_the_highest_hundred_and_a_hundred_others_to_the_last() -> None:
    for count in (200, 201, 5000):
        values = np.random.default_rng(0).permutation(np.arange(count, dtype=float))
        found = count - 1 - Ranks.of(values, np.ones(count)).value  # places, from the highest
        spread = [round(100 + k * (count - 101) / 99) for k in range(100)]
        assert found.tolist() == sorted({*range(100), *spread})
        assert found[-1] == count - 1
    kept = Ranks.of(values, np.ones(5000), keep=np.array([2345.0, 0.5])).value
    assert len(kept) == len(found) + 1
    assert 2345.0 in kept


@pytest.mark.parametrize(
    ("count", "conformal", "highest"),
    [
        (0, False, 0.0), (1, False, 0.0), (2, False, 50.0), (3, False, 66.66), (7, False, 85.71),
        (1, True, 0.0), (2, True, 66.66), (3, True, 75.0), (99, True, 99.0), (6, True, 85.71),
    ],
)  # fmt: skip
def test_highest_percentile_that_a_count_supports(
    count: int, conformal: bool, highest: float
) -> None:
    assert highest_supported(count, conformal=conformal) == highest


@pytest.mark.parametrize(
    ("percentile", "conformal", "needed"),
    [(99.0, True, 99), (90.0, True, 9), (66.0, False, 3), (1.0, False, 2), (1.0, True, 2),
     (50.0, True, 2)],
)  # fmt: skip
def test_a_percentile_is_supported_from_just_so_many(
    percentile: float, conformal: bool, needed: int
) -> None:
    require_supported(percentile, needed, "scans", conformal=conformal)
    with pytest.raises(
        CalibrationError, match=f"needs at least {needed} scans, found {needed - 1}"
    ):
        require_supported(percentile, needed - 1, "scans", conformal=conformal)


def test_ranks_move_with_their_values() -> None:
    ranks = Ranks.of(np.array([1.0, 2.0, 4.0]), np.ones(3))
    moved = ranks.moved(-7.0, 3.0)
    assert moved.value.tolist() == [5.0, -1.0, -4.0]
    np.testing.assert_allclose(
        moved.p_values(np.array([5.1, 5.0, -1.0, -4.0])), [0.25, 0.5, 0.75, 1]
    )
    assert Ranks.from_json(moved.to_json()).to_json() == moved.to_json()
