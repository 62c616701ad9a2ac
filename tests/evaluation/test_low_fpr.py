"""Partial AUROC and sensitivity at high specificity, against scikit-learn and repeated slices."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from twinvae.evaluation.low_fpr import LOW_FPR_METRICS, low_fpr_metrics
from twinvae.evaluation.resampling import multiplicities
from twinvae.evaluation.sweep import swept

ONCE = np.ones((1, 6))


def draw(seed: int, decimals: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(300) < 0.3
    score = np.round(rng.normal(size=300) + positive, decimals)
    return score, positive, rng.integers(0, 6, 300)


def by_scikit_learn(score: np.ndarray, positive: np.ndarray) -> list[float]:
    fpr, tpr, _ = roc_curve(positive, score, drop_intermediate=False)
    partial = roc_auc_score(positive, score, max_fpr=0.1)
    return [partial, *(tpr[fpr <= allowed + 1e-9].max() for allowed in (0.05, 0.01))]


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn_also_in_resamples(seed: int, decimals: int) -> None:
    score, positive, subject = draw(seed, decimals)
    once = low_fpr_metrics(swept(score, positive, subject, ONCE))
    expected = by_scikit_learn(score, positive)
    assert [float(once[name][0]) for name in LOW_FPR_METRICS] == pytest.approx(expected, abs=1e-9)
    draws = multiplicities(6, 40, seed)
    found = low_fpr_metrics(swept(score, positive, subject, draws.astype(np.float32)))
    for row, counts in enumerate(draws.astype(int)):
        index = np.repeat(np.arange(300), counts[subject])
        expected = by_scikit_learn(score[index], positive[index])
        assert [found[name][row] for name in LOW_FPR_METRICS] == pytest.approx(expected, abs=1e-5)


def test_by_hand() -> None:
    # 20 negatives 1 … 20, positives 20.5, 19.5, 18.5, 0.5: at 95 % specificity one negative may be
    # called, so the cut-off lies just above 19; at 99 % none may.
    score = np.array([*np.arange(1.0, 21.0), 20.5, 19.5, 18.5, 0.5])
    positive = np.arange(24) >= 20
    found = low_fpr_metrics(swept(score, positive, np.zeros(24, int), np.ones((1, 1))))
    assert found["sensitivity_at_specificity_95"][0] == 0.5
    assert found["sensitivity_at_specificity_99"][0] == 0.25
    # Height 1/4 up to FPR 0.05, then 2/4 up to 0.1: area 0.0375, chance 0.005, perfection 0.1.
    assert found["partial_auroc"][0] == pytest.approx(0.5 * (1 + 0.0325 / 0.095), abs=1e-12)


def test_all_highest_negatives_of_one_subject() -> None:
    """A resample that repeats it needs cut-offs far below the sample's own."""
    score = np.concatenate([np.linspace(2, 3, 50), np.linspace(0, 1, 150), np.linspace(0, 4, 60)])
    positive = np.arange(260) >= 200
    subject = np.concatenate([np.zeros(50, int), np.tile([1, 2, 3], 70)])
    draws = np.array([[4.0, 0, 0, 0], [0, 2, 2, 0], [1, 1, 1, 1]])
    draws[0, 1] = 1
    found = low_fpr_metrics(swept(score, positive, subject, draws))
    for row, counts in enumerate(draws.astype(int)):
        index = np.repeat(np.arange(260), counts[subject])
        expected = by_scikit_learn(score[index], positive[index])
        assert [found[name][row] for name in LOW_FPR_METRICS] == pytest.approx(expected, abs=1e-9)


def test_missing_class_is_undefined() -> None:
    score, subject = np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1])
    for positive in (np.zeros(3, bool), np.ones(3, bool)):
        found = low_fpr_metrics(swept(score, positive, subject, np.ones((1, 2))))
        assert all(np.isnan(found[name][0]) for name in LOW_FPR_METRICS)
    mixed = np.array([True, True, False])
    found = low_fpr_metrics(
        swept(score, mixed, subject, np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    )
    for name in LOW_FPR_METRICS:
        assert np.isnan(found[name][:2]).all()
        assert np.isfinite(found[name][2])
