"""Draws of subjects, intervals, and metrics of resamples against the same slices repeated."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from twinvae.evaluation.average_precision import average_precision, resampled_average_precision
from twinvae.evaluation.confusion import VERDICT_METRICS, counts_by_subject
from twinvae.evaluation.resampling import (
    interval,
    multiplicities,
    ratio,
    stratified_multiplicities,
)
from twinvae.evaluation.sweep import swept


def test_draws_are_seeded_whole_and_fair() -> None:
    draws = multiplicities(9, 4000, seed=1)
    assert np.array_equal(draws, multiplicities(9, 4000, seed=1))
    assert not np.array_equal(draws, multiplicities(9, 4000, seed=2))
    assert np.array_equal(draws.sum(axis=1), np.full(4000, 9))
    assert np.array_equal(draws, np.round(draws))
    np.testing.assert_allclose(draws.mean(axis=0), 1.0, atol=0.06)
    np.testing.assert_allclose(draws.var(axis=0), 8 / 9, atol=0.1)  # multinomial: n p (1 - p)
    assert multiplicities(0, 5, seed=0).shape == (5, 0)


def test_draws_leave_the_global_generator_alone() -> None:
    np.random.seed(3)
    expected = np.random.RandomState(3).random()
    multiplicities(5, 10, seed=0)
    assert np.random.random() == expected


def test_stratified_draws_keep_each_stratum_size() -> None:
    strata = np.array([0, 1, 0, 1, 1])
    draws = stratified_multiplicities(strata, 50, seed=0)
    assert np.array_equal(draws[:, strata == 0].sum(axis=1), np.full(50, 2))
    assert np.array_equal(draws[:, strata == 1].sum(axis=1), np.full(50, 3))


def test_interval_is_given_only_when_it_means_something() -> None:
    values = np.arange(1001.0)
    assert interval(values, 100_000) == pytest.approx((25.0, 975.0), abs=0.01)
    assert interval(values, 10) == pytest.approx((8.552, 991.448), abs=0.01)
    assert all(np.isnan(interval(values, 1)))
    assert all(np.isnan(interval(np.empty(0), 10)))
    values[:101] = np.nan
    assert all(np.isnan(interval(values, 10)))
    values[:2] = 0.0
    assert np.isfinite(interval(values, 10)[0])


def test_ratio_is_nan_over_zero() -> None:
    np.testing.assert_array_equal(ratio([1.0, 0.0], [2.0, 0.0]), [0.5, np.nan])


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_agrees_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score, positive = np.round(rng.normal(size=150), 1), rng.random(150) < 0.2
    subject = rng.integers(0, 6, 150)
    expected = average_precision_score(positive, score)
    assert average_precision(score, positive) == pytest.approx(expected, abs=1e-12)
    draws = multiplicities(6, 25, seed)
    found = resampled_average_precision(swept(score, positive, subject, draws))
    for row, counts in enumerate(draws.astype(int)):
        index = np.repeat(np.arange(150), counts[subject])
        expected = average_precision_score(positive[index], score[index])
        assert found[row] == pytest.approx(expected, abs=1e-12)


def test_average_precision_needs_both_classes() -> None:
    score, subject, draws = np.array([1.0, 2.0]), np.array([0, 1]), np.array([[1.0, 1.0]])
    for positive in (np.array([True, True]), np.array([False, False])):
        assert np.isnan(average_precision(score, positive))
        found = resampled_average_precision(swept(score, positive, subject, draws))
        assert np.isnan(found).all()
    draws = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    one_class = resampled_average_precision(swept(score, np.array([True, False]), subject, draws))
    np.testing.assert_array_equal(one_class, [np.nan, np.nan, 0.5])


def test_verdict_metrics_undefined_where_their_denominator_is_zero() -> None:
    nothing_called = counts_by_subject(
        np.array([False, False]), np.array([True, False]), np.array([0, 0]), 1
    )
    values = nothing_called.total().metrics()
    assert tuple(values) == VERDICT_METRICS
    assert np.isnan(values["precision"])
    assert values["f1"] == 0
    no_positive = counts_by_subject(np.array([True]), np.array([False]), np.array([0]), 1)
    values = no_positive.total().metrics()
    assert np.isnan([values[m] for m in ("f1", "sensitivity", "balanced_accuracy")]).all()
    assert values["specificity"] == 0
