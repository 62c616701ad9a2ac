"""Intervals hold the truth as often as they say when slices of one subject resemble each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from twinvae.evaluation.auroc import raw_auroc
from twinvae.evaluation.resampling import fewer_subjects, interval, multiplicities, tail_share

PEOPLE, SLICES, REPEATS = 60, 8, 2000
SUBJECT = np.repeat(np.arange(PEOPLE), SLICES)
DRAWS = multiplicities(PEOPLE, 1000, seed=1)
BETWEEN = 0.5
"""Share of a score's variance that lies between subjects."""


def simulated(rng: np.random.Generator, within: bool, gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of variance 1 in each class, ``gap`` apart; tumours in all subjects or in some."""
    share = rng.beta(2, 2, PEOPLE)[SUBJECT] if within else (rng.random(PEOPLE) < 0.5)[SUBJECT]
    positive = rng.random(PEOPLE * SLICES) < share
    level = rng.normal(0, np.sqrt(BETWEEN), PEOPLE)[SUBJECT]
    noise = rng.normal(0, np.sqrt(1 - BETWEEN), PEOPLE * SLICES)
    return gap * positive + level + noise, positive


def interval_and_inside(score: np.ndarray, positive: np.ndarray) -> tuple[float, float, float]:
    """The interval, and the share of pairs that lie within a subject."""
    drawn = raw_auroc(score, positive, SUBJECT, DRAWS).draws
    sizes = [np.bincount(SUBJECT[chosen], minlength=PEOPLE) for chosen in (positive, ~positive)]
    inside = (sizes[0] @ sizes[1]) / (sizes[0].sum() * sizes[1].sum())
    return *interval(drawn, fewer_subjects(positive, SUBJECT)), inside


@pytest.mark.parametrize("auroc", [0.75, 0.85])
@pytest.mark.parametrize("within", [False, True])
def test_intervals_over_subjects_cover_what_they_say(within: bool, auroc: float) -> None:
    """95 % ± 1.5 over 2,000 repetitions."""
    rng = np.random.default_rng(int(1000 * auroc) + within)
    gap = float(ndtri(auroc)) * np.sqrt(2)
    found = np.array([interval_and_inside(*simulated(rng, within, gap)) for _ in range(REPEATS)])
    low, high, shares = found.T
    # Pairs of two subjects differ by the normal law; pairs within one lack the subject's level.
    inside = float(shares.mean())
    truth = (1 - inside) * auroc + inside * ndtr(gap / np.sqrt(2 * (1 - BETWEEN)))
    hits = np.mean((low <= truth) & (truth <= high))
    assert hits == pytest.approx(0.95, abs=0.015)


def test_bootstrap_of_slices_does_not() -> None:
    """As if slices were independent: intervals far too short."""
    rng = np.random.default_rng(7)
    n = PEOPLE * SLICES
    draws, hits, repeats = multiplicities(n, 300, seed=1), 0, 150
    for _ in range(repeats):
        score, positive = simulated(rng, within=False, gap=float(ndtri(0.75)) * np.sqrt(2))
        wins = (score[positive][:, None] > score[~positive]).astype(float)
        drawn = ((draws[:, positive] @ wins) * draws[:, ~positive]).sum(axis=1)
        sizes = draws[:, positive].sum(axis=1) * draws[:, ~positive].sum(axis=1)
        low, high = interval(drawn / sizes, n)
        hits += low <= 0.75 <= high
    assert hits / repeats < 0.8


def test_interval_is_plain_percentiles_with_many_subjects_and_wider_with_few() -> None:
    assert tail_share(100_000) == pytest.approx(0.025, abs=1e-5)
    tails = [tail_share(n) for n in (2, 5, 10, 20, 50, 200)]
    assert tails == sorted(tails)
    # n = 10: Student's t with 9 degrees of freedom 2.2622, times sqrt(10/9): Phi(-2.3845).
    assert tail_share(10) == pytest.approx(0.008552, abs=2e-6)


def test_subjects_are_counted_in_the_class_with_fewer() -> None:
    subject = np.array([0, 0, 1, 2, 2, 3])
    assert fewer_subjects(np.array([1, 0, 0, 0, 1, 0], dtype=bool), subject) == 2
    assert fewer_subjects(np.zeros(6, dtype=bool), subject) == 0
