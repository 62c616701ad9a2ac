"""How far one gets by knowing which slice it is: where in the brain, and how large the brain there.

A logistic regression on position and log brain area, with their squares and product. It is given
the tumour labels, which no score is: a bound on what a score owes to telling slices apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from twinvae.evaluation.auroc import pair_wins
from twinvae.evaluation.estimates import summary
from twinvae.evaluation.resampling import BoolArray, FloatArray, fewer_subjects
from twinvae.evaluation.sample import Sample
from twinvae.evaluation.three_aurocs import Resampled

FOLDS = 5


def which_slice(sample: Sample, positive: BoolArray, draws: FloatArray) -> dict[str, Any] | None:
    """The raw AUROC of that regression, cross-validated over subjects in ``FOLDS`` folds.

    Every slice is judged by a regression fitted to other subjects; its interval does not count the
    spread of the regression itself. Slices without brain get the lowest score of all. Returns
    ``folds`` with the estimate, or None when a fold has only one class to learn from. (Matched and
    adjusted AUROCs would say nothing here: among slices alike in all it knows, the regression
    tells only its folds apart.)
    """
    there = np.isfinite(sample.log_area) & np.isfinite(sample.position)
    people = np.unique(sample.subject[there])
    if len(people) < 2:
        return None
    features = np.column_stack([sample.position, sample.log_area])[there]
    truth, subject = positive[there], sample.subject[there]
    folds = GroupKFold(min(FOLDS, len(people)))
    judged = np.empty(len(truth))
    for learn, test in folds.split(features, truth, subject):
        if truth[learn].all() or not truth[learn].any():
            return None
        model = make_pipeline(
            StandardScaler(), PolynomialFeatures(2, include_bias=False), LogisticRegression()
        ).fit(features[learn], truth[learn])
        judged[test] = model.decision_function(features[test])
    score = np.full(len(there), judged.min() - 1)
    score[there] = judged
    wins = pair_wins(score, positive, sample.subject, sample.n_subjects)
    found = Resampled(wins.auroc(), wins.resampled(draws))
    return {
        "folds": folds.get_n_splits(),
        **summary(found, fewer_subjects(positive, sample.subject)),
    }
