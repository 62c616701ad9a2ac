"""Similar pairs where there are too many to look at them all, and matrices mostly empty."""

from __future__ import annotations

import numpy as np
import pytest

from twinvae.config import EvaluationConfig
from twinvae.evaluation import similar
from twinvae.evaluation.adjusted import ThreeAurocs
from twinvae.evaluation.resampling import interval, multiplicities
from twinvae.evaluation.similar import Matching, similar_pairs
from twinvae.evaluation.subsets import Sample

WINDOW = Matching(log_area=0.15, position=0.08)


def brains(people: int = 40, slices: int = 60) -> tuple[Sample, np.ndarray]:
    """Tumours in the middle, where the brain is large; scores of tumours, of area, of place."""
    rng = np.random.default_rng(3)
    subject = np.repeat(np.arange(people), slices)
    position = rng.uniform(0, 1, len(subject))
    size = rng.normal(0, 0.06, people)[subject]
    area = np.log(np.sin(np.pi * (0.04 + 0.92 * position))) + size
    positive = rng.random(len(subject)) < 0.9 * np.exp(-(((position - 0.5) / 0.24) ** 4))
    level, noise = rng.normal(0, 0.3, people)[subject], rng.normal(0, 1, (3, len(subject)))
    scores = {
        "tumours": positive + level + noise[0],
        "area": np.round(3 * area + level + noise[1], 1),
        "place": -20 * (position - 0.5) ** 2 + noise[2],
    }
    tumour_px = np.where(positive, 100.0, 0.0)
    return Sample(scores, tumour_px, subject, people, area, position), positive


def pairs_of(sample: Sample, positive: np.ndarray) -> np.ndarray:
    """(pairs, 3): positive, negative, how many each pair stands for."""
    numbers = np.flatnonzero(positive), np.flatnonzero(~positive)
    found = similar_pairs(*numbers, sample.log_area, sample.position, WINDOW)
    return np.concatenate([np.column_stack([b.first, b.second, b.stands_for]) for b in found])


def test_thinned_pairs_are_some_of_all_and_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, positive = brains()
    every = pairs_of(sample, positive)
    assert (every[:, 2] == 1).all()
    monkeypatch.setattr(similar, "_ALL", 1000)
    monkeypatch.setattr(similar, "_THINNED", 1000)
    monkeypatch.setattr(similar, "_LEAST", 20)
    few = pairs_of(sample, positive)
    kept, whole = ({tuple(pair) for pair in p[:, :2].tolist()} for p in (few, every))
    assert len(kept) == len(few) < 0.5 * len(every)
    assert kept < whole
    assert np.bincount(few[:, 0].astype(int)).max() <= 20
    assert few[:, 2].sum() == pytest.approx(len(every), rel=0.02)
    # Every negative slice is as likely to be kept: no side of the window, no subject is favoured.
    shares = [
        np.average(sample.position[p[:, 1].astype(int)], weights=p[:, 2]) for p in (few, every)
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.005)


def test_positives_with_few_candidates_keep_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, positive = brains(people=4)
    every = pairs_of(sample, positive)
    monkeypatch.setattr(similar, "_ALL", 0)
    np.testing.assert_array_equal(pairs_of(sample, positive), every)


def test_thinned_aurocs_and_intervals_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, positive = brains(people=60, slices=120)
    draws, config = multiplicities(60, 300, 0), EvaluationConfig()
    exact = ThreeAurocs(sample, positive, draws, config)
    monkeypatch.setattr(similar, "_ALL", 0)
    monkeypatch.setattr(similar, "_THINNED", 0)
    thinned = ThreeAurocs(sample, positive, draws, config)
    assert thinned.pairs.count < 0.4 * exact.pairs.count
    for name in sample.scores:
        for (kind, mine), (_, theirs) in zip(
            thinned.among_similar(name), exact.among_similar(name), strict=True
        ):
            assert mine.value == pytest.approx(theirs.value, abs=0.006), (name, kind)
            ends = [interval(found.draws, 60) for found in (mine, theirs)]
            assert ends[0] == pytest.approx(ends[1], abs=0.015), (name, kind)


def test_sparse_matrices_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, positive = brains(people=25)
    draws, config = multiplicities(25, 80, 0), EvaluationConfig()

    def found() -> list[np.ndarray]:
        aurocs = ThreeAurocs(sample, positive, draws, config)
        each = [found for name in sample.scores for _, found in aurocs.among_similar(name)]
        return [np.append(one.draws, one.value) for one in each]

    dense = found()
    monkeypatch.setattr(similar, "_EMPTY", 0)
    for number, (sparse, one) in enumerate(zip(found(), dense, strict=True)):
        limit = 2e-6 if number % 2 else 1e-12  # adjusted ones are computed in float32
        np.testing.assert_allclose(sparse, one, rtol=0, atol=limit)
