"""How far one gets without a model: the best trivial score, and knowing which slice it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from twinvae.evaluation.adjusted import KINDS, ThreeAurocs
from twinvae.evaluation.auroc import auroc_difference, raw_auroc
from twinvae.evaluation.resampling import (
    BoolArray,
    Estimate,
    FloatArray,
    Resampled,
    fewer_subjects,
    null,
    summary,
)
from twinvae.evaluation.subsets import Sample
from twinvae.scoring.table import is_trivial

FOLDS = 5
"""Of the regression on which slice it is."""


def best_trivial(values: Mapping[str, float]) -> str | None:
    """The trivial score of the highest value; None when none has one."""
    defined = {n: value for n, value in values.items() if is_trivial(n) and not np.isnan(value)}
    return max(defined, key=lambda name: defined[name]) if defined else None


class Rivals:
    """All scores on the same slices and resamples, and their leads over the best trivial one."""

    def __init__(self, sample: Sample, positive: BoolArray, aurocs: ThreeAurocs) -> None:
        self._sample, self._positive = sample, positive
        self._n_independent = fewer_subjects(positive, sample.subject)
        self._found = {name: dict(aurocs.of(name)) for name in sample.scores}
        self.estimates: dict[str, dict[str, Estimate]] = {
            name: {kind: summary(found[kind], self._n_independent) for kind in KINDS}
            for name, found in self._found.items()
        }
        """For each score, its AUROC of each kind."""

    def best(self) -> dict[str, Any]:
        """For each kind, the trivial score of the highest AUROC; null when there is none."""
        rivals = {kind: self._rival(kind) for kind in KINDS}
        return {
            kind: None if name is None else {"score": name, **self.estimates[name][kind]}
            for kind, name in rivals.items()
        }

    def comparisons(self) -> dict[str, Any]:
        """For each score that is not trivial and each kind, its lead over the best rival."""
        rivals = {kind: self._rival(kind) for kind in KINDS}
        return {
            name: {
                kind: None if rival is None else self._lead(name, rival, kind)
                for kind, rival in rivals.items()
            }
            for name in self._found
            if not is_trivial(name)
        }

    def _rival(self, kind: str) -> str | None:
        return best_trivial({name: found[kind].value for name, found in self._found.items()})

    def _lead(self, name: str, rival: str, kind: str) -> dict[str, Any]:
        mine, theirs = self._found[name][kind], self._found[rival][kind]
        gap = Resampled(mine.value - theirs.value, mine.draws - theirs.draws)
        lead = summary(gap, self._n_independent)
        scores = (self._sample.scores[name], self._sample.scores[rival])
        return {
            "value": null(mine.value),
            "rival": rival,
            "rival_value": null(theirs.value),
            "difference": lead["value"],
            "ci_low": lead["ci_low"],
            "ci_high": lead["ci_high"],
            "p_value": null(auroc_difference(*scores, self._positive, self._sample.subject).p_value)
            if kind == "raw"
            else None,
        }


def which_slice(sample: Sample, positive: BoolArray, draws: FloatArray) -> dict[str, Any] | None:
    """How far one gets by knowing which slice it is: where in the brain, how large the brain there.

    The raw AUROC of a logistic regression on position and log brain area, with their squares and
    product, cross-validated over subjects in ``FOLDS`` folds. It is given the tumour labels, which
    no score is: a bound on what a score owes to telling slices apart.

    Every slice is judged by a regression fitted to other subjects; its interval does not count the
    spread of the regression itself. Slices without brain get the lowest score of all. Returns
    ``folds`` with the estimate, or None when a fold has only one class to learn from. (Matched and
    adjusted AUROCs would say nothing here: among slices alike in all it knows, the regression
    tells only its folds apart.)
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    there = np.isfinite(sample.log_area) & np.isfinite(sample.position)
    people = np.unique(sample.subject[there])
    if len(people) < 2:
        return None
    features = np.column_stack([sample.position, sample.log_area])[there]
    truth, subject = positive[there], sample.subject[there]
    folds = GroupKFold(min(FOLDS, len(people)))
    unseen = np.empty(len(truth))
    for learn, test in folds.split(features, truth, subject):
        if truth[learn].all() or not truth[learn].any():
            return None
        model = make_pipeline(
            StandardScaler(), PolynomialFeatures(2, include_bias=False), LogisticRegression()
        ).fit(features[learn], truth[learn])
        unseen[test] = model.decision_function(features[test])
    score = np.full(len(there), unseen.min() - 1)
    score[there] = unseen
    found = raw_auroc(score, positive, sample.subject, draws)
    return {
        "folds": folds.get_n_splits(),
        **summary(found, fewer_subjects(positive, sample.subject)),
    }
