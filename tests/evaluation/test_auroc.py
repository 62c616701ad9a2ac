"""Raw AUROC and matched pairs against scikit-learn and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from repeated import repeated
from sklearn.metrics import roc_auc_score

from twinvae.evaluation.auroc import match_pairs, raw_auroc
from twinvae.evaluation.resampling import multiplicities
from twinvae.evaluation.similar import Matching


def draw(seed: int, n: int = 200, people: int = 7) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(size=n), 1)  # one decimal: many ties
    return score, rng.random(n) < 0.3, rng.integers(0, people, n)


def of_slices(score: list[float], positive: list[int]) -> float:
    subject = np.zeros(len(score), dtype=np.int64)
    return raw_auroc(np.array(score), np.array(positive, bool), subject, np.ones((0, 1))).value


def test_by_hand() -> None:
    # Positives 3 and 1 against negatives 1, 2: wins 1 + 1 and 0.5 + 0 out of 4.
    assert of_slices([3, 1, 1, 2], [1, 1, 0, 0]) == 2.5 / 4
    assert np.isnan(of_slices([1, 2], [1, 1]))
    assert np.isnan(of_slices([], []))


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn_with_ties(seed: int) -> None:
    score, positive, subject = draw(seed)
    found = raw_auroc(score, positive, subject, np.ones((0, 7))).value
    assert found == pytest.approx(roc_auc_score(positive, score), abs=1e-12)


@pytest.mark.parametrize("people", [1, 7, 60])
def test_resampled_is_exactly_what_wins_between_subjects_give(people: int) -> None:
    """cᵀ·wins·c / cᵀ·pairs·c, subject s drawn c_s times; subject ``people`` has no slice."""
    score, positive, subject = draw(1, n=250, people=people)
    wins, pairs = np.zeros((2, people + 1, people + 1))
    for i, j in itertools.product(np.flatnonzero(positive), np.flatnonzero(~positive)):
        wins[subject[i], subject[j]] += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        pairs[subject[i], subject[j]] += 1
    draws = multiplicities(people + 1, 200, seed=5)
    found = raw_auroc(score, positive, subject, draws)
    assert found.value == wins.sum() / pairs.sum()
    with np.errstate(invalid="ignore"):
        expected = ((draws @ wins) * draws).sum(axis=1) / ((draws @ pairs) * draws).sum(axis=1)
    np.testing.assert_array_equal(found.draws, expected)


def test_resampled_auroc_is_that_of_the_slices_repeated() -> None:
    score, positive, subject = draw(2)
    draws = multiplicities(7, 20, seed=5)
    found = raw_auroc(score, positive, subject, draws).draws
    expected = repeated(lambda s, p: roc_auc_score(p, s), score, positive, subject, draws)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_resample_without_a_class_is_undefined() -> None:
    draws = np.array([[1.0, 1.0], [2.0, 0.0]])
    people = (np.array([True, False]), np.array([0, 1]))
    found = raw_auroc(np.array([1.0, 0.0]), *people, draws).draws
    np.testing.assert_array_equal(found, [1.0, np.nan])


@pytest.mark.parametrize("block", [3, 2_000_000])
def test_matched_pairs_agree_with_brute_force(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinvae.evaluation.similar._BLOCK", block)
    score, positive, subject = draw(3, n=120)
    rng = np.random.default_rng(0)
    # Few distinct places, so that many differences equal the limit exactly.
    position, area = rng.integers(0, 20, 120) * 0.04, rng.normal(8, 0.2, 120)
    area[:5] = -np.inf  # slices without brain
    matching = Matching(log_area=0.15, position=0.08)
    found = match_pairs(positive, subject, 7, area, position, matching)
    wins, pairs, first, second = np.zeros((7, 7)), np.zeros((7, 7)), set(), set()
    for i, j in itertools.product(np.flatnonzero(positive), np.flatnonzero(~positive)):
        if min(area[i], area[j]) == -np.inf or abs(area[i] - area[j]) >= 0.15:
            continue
        if abs(position[i] - position[j]) >= 0.08:
            continue
        wins[subject[i], subject[j]] += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
        pairs[subject[i], subject[j]] += 1
        first.add(i), second.add(j)
    result = found.wins(score)
    np.testing.assert_array_equal(result.wins, wins)
    np.testing.assert_array_equal(result.pairs, pairs)
    assert found.count == pairs.sum() > 100
    people = {int(subject[i]) for i in first | second}
    assert found.members == (len(first), len(second), len(people))


def test_no_similar_pair_is_undefined() -> None:
    positive = np.array([True, False])
    found = match_pairs(
        positive, np.array([0, 0]), 1, np.array([8.0, 8.0]), np.array([0.1, 0.9]), Matching(1, 0.08)
    )
    assert found.count == 0
    assert found.members == (0, 0, 0)
    assert np.isnan(found.wins(np.array([1.0, 2.0])).auroc())


def test_matching_removes_what_brain_area_explains() -> None:
    rng = np.random.default_rng(4)
    position = rng.uniform(0, 1, 3000)
    area = np.log(4000 * np.sin(np.pi * (0.1 + 0.8 * position)))
    positive = rng.random(3000) < np.exp(-(((position - 0.5) / 0.2) ** 2))
    subject = rng.integers(0, 30, 3000)
    score = area + rng.normal(0, 0.2, 3000)  # sees the brain's size and nothing else
    matched = match_pairs(positive, subject, 30, area, position, Matching(0.15, 0.08))
    raw, similar = roc_auc_score(positive, score), matched.wins(score).auroc()
    assert raw > 0.75
    # Within the window a little of the brain's size is left, so not quite 0.5.
    assert abs(similar - 0.5) < 0.25 * (raw - 0.5)
    noise = rng.normal(size=3000)
    assert matched.wins(noise).auroc() == pytest.approx(0.5, abs=0.03)
