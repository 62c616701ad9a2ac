"""Variances of AUROCs: R's pROC, the textbook formula, clusters, and error rates."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from twinvae.evaluation.auroc import auroc_covariance, auroc_difference
from twinvae.evaluation.low_fpr import low_fpr_metrics
from twinvae.evaluation.sweep import swept

# The five points of the ROC curve of the WFNS grade that R's pROC (Robin et al., BMC Bioinformatics
# 12 (2011) 77) publishes for its example, aSAH, as counts: patients with poor and with good outcome
# at each grade. Its own tests state the AUROC, DeLong's variance and the partial AUROC below.
POOR = (2, 12, 1, 8, 18)
GOOD = (37, 20, 3, 8, 4)


def test_agrees_with_proc() -> None:
    grade = np.repeat(np.tile(np.arange(1.0, 6.0), 2), [*POOR, *GOOD])
    poor = np.arange(len(grade)) < sum(POOR)
    aurocs, covariance = auroc_covariance([grade], poor)
    assert aurocs[0] == pytest.approx(0.823678861788618, abs=1e-14)
    assert covariance[0, 0] == pytest.approx(0.00146991470882363, abs=1e-16)
    partial = low_fpr_metrics(swept(grade, poor, np.zeros(len(grade), int), np.ones((1, 1))))
    assert partial["partial_auroc"][0] == pytest.approx(0.649693339038653, abs=1e-14)


def pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first[:, None] > second) + 0.5 * (first[:, None] == second)


def test_independent_slices_give_delongs_own_formula() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(90) < 0.4
    scores = [np.round(rng.normal(size=90) + positive, 1) for _ in range(3)]
    aurocs, covariance = auroc_covariance(scores, positive)
    wins = [pairs(score[positive], score[~positive]) for score in scores]
    expected = np.cov([w.mean(axis=1) for w in wins]) / positive.sum()
    expected += np.cov([w.mean(axis=0) for w in wins]) / (~positive).sum()
    np.testing.assert_allclose(covariance, expected, atol=1e-15)
    np.testing.assert_allclose(aurocs, [roc_auc_score(positive, score) for score in scores])


def test_clusters_give_obuchowskis_formula_written_out() -> None:
    rng = np.random.default_rng(1)
    subject = np.repeat(np.arange(8), 12)
    positive = rng.random(96) < np.repeat([0, 0.2, 0.5, 0.7, 0.3, 1, 0.5, 0.6], 12)
    score = np.round(rng.normal(size=96) + positive + rng.normal(size=8)[subject], 1)
    (area,), covariance = auroc_covariance([score], positive, subject)
    wins = pairs(score[positive], score[~positive])
    s10 = s01 = s11 = 0.0
    for one in range(8):
        of_pos = (wins.mean(axis=1) - area)[subject[positive] == one].sum()
        of_neg = (wins.mean(axis=0) - area)[subject[~positive] == one].sum()
        s10, s01, s11 = s10 + of_pos**2 * 7 / 6, s01 + of_neg**2 * 7 / 6, s11 + of_pos * of_neg
    m, n = positive.sum(), (~positive).sum()
    # Subject 0 has no positive slice, subject 5 no negative one: 7 clusters have each.
    assert len(np.unique(subject[positive])) == len(np.unique(subject[~positive])) == 7
    assert covariance[0, 0] == pytest.approx(
        s10 / m**2 + s01 / n**2 + 2 * s11 * 8 / 7 / m / n, abs=1e-15
    )


def test_clustered_test_keeps_its_level_and_the_plain_one_does_not() -> None:
    """Two equally good scores that each see something of the subject: 5 % must differ by p."""
    rng = np.random.default_rng(2)
    people, slices, repeats = 50, 12, 400
    subject = np.repeat(np.arange(people), slices)
    rejected = np.zeros(2)
    for _ in range(repeats):
        positive = (np.arange(people) % 2 == 0)[subject]
        score = positive + rng.normal(0, 0.8, (2, people))[:, subject]
        score += rng.normal(0, 0.6, (2, people * slices))
        for kind, cluster in enumerate((subject, None)):
            rejected[kind] += auroc_difference(*score, positive, cluster).p_value < 0.05
    assert rejected[0] / repeats == pytest.approx(0.05, abs=0.03)
    assert rejected[1] / repeats > 0.3


def test_no_difference_from_itself_and_nothing_from_one_subject() -> None:
    rng = np.random.default_rng(3)
    score, positive = rng.normal(size=40), np.arange(40) % 2 == 0
    same = auroc_difference(score, score, positive)
    assert (same.first - same.second, same.standard_error) == (0.0, pytest.approx(0.0, abs=1e-9))
    assert np.isnan(same.p_value)
    alone = auroc_difference(score, -score, positive, np.zeros(40, int))
    assert np.isnan([alone.first, alone.standard_error, alone.p_value]).all()
