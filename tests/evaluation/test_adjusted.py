"""The adjusted AUROC against a slow calculation written out, and against simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from twinvae.evaluation.adjusted import RIDGE, Neighbours, adjusted_aurocs, find_neighbours
from twinvae.evaluation.resampling import multiplicities
from twinvae.evaluation.similar import Matching

WINDOW = Matching(log_area=0.15, position=0.08)
PEOPLE = 12


def small(seed: int, n: int = 260) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    position = rng.uniform(0, 1, n)
    area = np.log(np.sin(np.pi * (0.1 + 0.8 * position))) + rng.normal(0, 0.05, n)
    positive = rng.random(n) < np.exp(-(((position - 0.5) / 0.2) ** 2))
    score = np.round(area + rng.normal(0, 0.3, n) + 0.2 * positive, 1)  # many ties
    return score, positive, rng.integers(0, PEOPLE, n), area, position


def value(found: Neighbours, score: np.ndarray) -> float:
    return adjusted_aurocs(found, [score], np.empty((0, found.blocks[0].n_subjects)))[0].value


def slow(
    score: np.ndarray,
    positive: np.ndarray,
    area: np.ndarray,
    position: np.ndarray,
    count: np.ndarray | None = None,
) -> tuple[float, dict[int, float]]:
    """One tumour slice after the other; ``count``: how often each slice is drawn."""
    count = np.ones(len(score)) if count is None else count
    placed, effective = {}, {}
    for i in np.flatnonzero(positive):
        apart = np.column_stack([(area - area[i]) / 0.15, (position - position[i]) / 0.08])
        near = ~positive & (np.abs(apart) < 1).all(axis=1)
        if not near.any():
            continue
        d, kernel = apart[near], (1 - apart[near] ** 2).prod(axis=1)

        def objective(tilt: np.ndarray, d: np.ndarray = d, kernel: np.ndarray = kernel) -> float:
            return np.log((kernel * np.exp(d @ tilt)).sum()) + RIDGE / 2 * (tilt**2).sum()

        tilt = minimize(objective, np.zeros(2), options={"gtol": 1e-9}).x
        weight = kernel * np.exp(d @ tilt)
        effective[int(i)] = weight.sum() ** 2 / (weight**2).sum()
        weight = weight * count[near]
        if weight.sum() and count[i]:
            below = (score[near] < score[i]) + 0.5 * (score[near] == score[i])
            placed[int(i)] = (weight * below).sum() / weight.sum()
    total = sum(count[i] * value for i, value in placed.items())
    return total / sum(count[i] for i in placed), effective


@pytest.mark.parametrize("block", [40, 2_000_000])
def test_agrees_with_the_slow_calculation(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinvae.evaluation.similar._BLOCK", block)
    score, positive, subject, area, position = small(0)
    found = find_neighbours(positive, subject, PEOPLE, area, position, WINDOW)
    expected, effective = slow(score, positive, area, position)
    assert value(found, score) == pytest.approx(expected, abs=1e-5)
    assert found.placed.tolist() == sorted(effective)
    np.testing.assert_allclose(found.effective[0], list(effective.values()), rtol=1e-3)
    assert found.typical[0] == pytest.approx(np.median(list(effective.values())), rel=1e-3)
    for part in found.blocks:
        np.testing.assert_allclose(part.weights.sum(axis=1), 1, atol=1e-5)


def test_resampled_is_that_of_the_slices_repeated_with_their_weights() -> None:
    score, positive, subject, area, position = small(1, n=120)
    found = find_neighbours(positive, subject, PEOPLE, area, position, WINDOW)
    draws = multiplicities(PEOPLE, 12, seed=0)
    fast = adjusted_aurocs(found, [score], draws)[0].draws
    for row, counts in enumerate(draws):
        expected, _ = slow(score, positive, area, position, count=counts[subject])
        assert fast[row] == pytest.approx(expected, abs=1e-5)


def test_only_ranks_count() -> None:
    score, positive, subject, area, position = small(2)
    found = find_neighbours(positive, subject, PEOPLE, area, position, WINDOW)
    plain = value(found, score)
    assert value(found, np.exp(5 * score)) == plain
    assert value(found, -score) == pytest.approx(1 - plain, abs=1e-6)


def brains(seed: int, noise: float, lead: float, people: int = 60) -> tuple[np.ndarray, ...]:
    """Tumours sit in the middle, where the brain is large; the score is area, noise and ``lead``.

    Given area and position, a tumour slice's score is normal, ``lead`` above that of a tumour-free
    one, so the true adjusted AUROC is Phi(lead / (noise sqrt(2))).
    """
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(people), 80)
    position = rng.uniform(0, 1, len(subject))
    size = rng.normal(0, 0.08, people)[subject]
    area = np.log(np.sin(np.pi * (0.04 + 0.92 * position))) + size
    positive = rng.random(len(subject)) < 0.9 * np.exp(-(((position - 0.5) / 0.24) ** 4))
    score = area + rng.normal(0, noise, len(subject)) + lead * positive
    return score, positive, subject, area, position


def test_a_score_of_brain_area_alone_is_worth_nothing_once_adjusted() -> None:
    raw, adjusted = [], []
    for seed in range(6):
        score, positive, subject, area, position = brains(seed, noise=0.12, lead=0.0)
        found = find_neighbours(positive, subject, 60, area, position, WINDOW)
        raw.append(roc_auc_score(positive, score))
        adjusted.append(value(found, score))
    assert np.mean(raw) == pytest.approx(0.9, abs=0.02)
    assert np.mean(adjusted) == pytest.approx(0.5, abs=0.015)
    assert np.abs(np.array(adjusted) - 0.5).max() < 0.05


@pytest.mark.parametrize(("lead", "truth"), [(0.1, 0.7067), (0.2, 0.8617)])
def test_a_detector_keeps_nearly_its_true_adjusted_auroc(lead: float, truth: float) -> None:
    """What the score owes to area differs a little within the window, which costs up to 0.02."""
    found = []
    for seed in range(6):
        score, positive, subject, area, position = brains(seed, noise=0.13, lead=lead)
        near = find_neighbours(positive, subject, 60, area, position, WINDOW)
        found.append(value(near, score))
    assert np.mean(found) == pytest.approx(truth, abs=0.02)


def test_balance_the_tilt_centres_neighbours_on_the_slice() -> None:
    """Also where negatives are mostly on one side."""
    rng = np.random.default_rng(5)
    position = np.append(rng.beta(1, 3, 4000) * 0.16 - 0.08, 0.0)
    positive = np.arange(4001) == 4000
    area, subject = np.zeros(4001), np.zeros(4001, int)
    found = find_neighbours(positive, subject, 1, area, position, WINDOW)
    block = found.blocks[0]
    plain = 1 - (position[block.second] / 0.08) ** 2
    assert abs(np.average(position[block.second], weights=plain)) > 0.025
    assert abs(np.average(position[block.second], weights=block.weight)) < 0.008


def test_nothing_near_is_undefined() -> None:
    positive = np.array([True, False, False])
    area = np.array([8.0, 8.0, -np.inf])
    far = find_neighbours(positive, np.arange(3), 3, area, np.array([0.1, 0.9, 0.1]), WINDOW)
    (found,) = adjusted_aurocs(far, [np.array([1.0, 2.0, 3.0])], np.ones((2, 3)))
    assert np.isnan(found.value)
    assert (far.members, far.typical) == ((0, 0, 0), (0.0, 0.0))
    assert np.isnan(found.draws).all()
