"""Fitted rules, what they learn from and what they mark, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from twinvae.config import DecisionConfig
from twinvae.decision import RULES, discoveries
from twinvae.decision.rules import Healthy, _thinned, fit_rule, leave_one_out
from twinvae.decision.thresholds import Places, Shape
from twinvae.decision.transfer import level_and_spread

CONFIG = DecisionConfig(percentiles=(50.0, 75.0), scan_percentile=50.0)


def healthy(subject: list[int], score: list[float], size: list[float] | None = None) -> Healthy:
    area = np.array(size or [1.0] * len(score))
    return Healthy(np.array(score), Places(area, np.zeros(len(score))), np.array(subject))


def test_groups_of_subjects_are_left_out_together() -> None:
    """Codes 2, 3, 5, 7, 8 in two groups: the first, third and fifth, and the others."""
    subject = [8, 2, 3, 5, 7, 2]
    given = healthy(subject, [10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    learned = replace(RULES["percentile"], shape=lambda *_: Shape(), folds=2)
    in_two = leave_one_out(learned, given, CONFIG)
    assert in_two is not None
    # Of 30 and 50 the others are 10, 20, 40 and 60, and the other way round: medians 30 and 40.
    assert in_two.called[0].tolist() == [False, False, True, True, True, True]
    assert in_two.called[1].tolist() == [False, False, False, False, True, True]  # 45 and 45
    np.testing.assert_allclose(in_two.p_value, [1, 1, 3 / 5, 2 / 3, 2 / 5, 1 / 3])
    np.testing.assert_allclose(in_two.least, [1 / 3, 1 / 3, 1 / 5, 1 / 3, 1 / 5, 1 / 3])
    one_by_one = leave_one_out(RULES["percentile"], given, CONFIG)
    many = leave_one_out(replace(RULES["percentile"], folds=9), given, CONFIG)
    assert one_by_one is not None
    assert many is not None
    assert (many.p_value == one_by_one.p_value).all()
    np.testing.assert_allclose(one_by_one.p_value, [1, 4 / 5, 4 / 6, 3 / 6, 2 / 6, 1 / 5])
    assert leave_one_out(RULES["percentile"], given.only(given.subject == 2), CONFIG) is None
    two = leave_one_out(RULES["percentile"], given.only(given.subject != 2), CONFIG)
    assert two is not None


def test_percentiles_and_ranks_are_those_of_the_bin() -> None:
    given = healthy([0, 1, 2, 3, 4, 5], [1.0, 2.0, 3.0, 10.0, 30.0, 20.0], [1, 2, 3, 4, 5, 6.0])
    config = CONFIG.model_copy(update={"bins": 2})
    fitted = fit_rule(RULES["size_binned"], given, config)
    assert fitted.cutoffs.tolist() == [[2.0, 20.0], [2.5, 25.0]]  # percentiles by bins
    places = Places(np.array([3.49, 3.5, 9.0]), np.zeros(3))
    assert fitted.thresholds(places).tolist() == [[2.0, 20.0, 20.0], [2.5, 25.0, 25.0]]
    score = np.array([2.0, 2.0, 25.0])
    assert fitted.called(score, places).tolist() == [[True, False, True], [False, False, True]]
    found, least = fitted.p_values(score, places)
    assert (found.tolist(), least.tolist()) == ([0.75, 1.0, 0.5], [0.25] * 3)


def test_large_samples_are_thinned_evenly_from_the_smallest_to_the_largest() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 800, 801, 2398):
        size = rng.permutation(np.arange(count, dtype=float))
        found, score = _thinned(healthy([0] * count, (2 * size).tolist(), size.tolist()))
        kept = min(count, 800)
        step = (count - 1) / (kept - 1)
        assert found.tolist() == [round(k * step) for k in range(kept)]
        assert (score == 2 * found).all()


@pytest.mark.parametrize(
    ("score", "median", "spread"),
    [
        ([1.0, 2.0, 4.0, 9.0, 9.0], 4.0, 2.5),
        ([1.0, 2.0, 4.0, 8.0], 3.0, 1.5),
        ([4.0, 4.0, 4.0, 9.0], 4.0, 0.0),  # none below
        ([0.0, 4.0, 4.0], 4.0, 4.0),  # those at the median are not below it
    ],
)
def test_lower_spread_by_hand(score: list[float], median: float, spread: float) -> None:
    found = level_and_spread(np.array(score))
    assert found == {"median": median, "lower_spread": spread}


@pytest.mark.parametrize("method", ["bh", "by"])
def test_slices_at_the_level_are_marked(method: str) -> None:
    p_value = np.array([0.3, 0.01, 0.2, 0.04, 0.9])
    adjusted = false_discovery_control(p_value, method=method)
    for level in adjusted:
        found = discoveries(p_value, float(level), method)
        assert found.tolist() == (adjusted <= level).tolist()
        assert found.sum() > discoveries(p_value, float(np.nextafter(level, 0)), method).sum()
    assert discoveries(np.array([0.1]), 0.1, "bh").tolist() == [True]
