"""Every score's AUROCs, and its lead over the best rival that no model was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from twinvae.evaluation.delong import auroc_difference
from twinvae.evaluation.estimates import Estimate, null, summary
from twinvae.evaluation.resampling import BoolArray, fewer_subjects
from twinvae.evaluation.sample import Sample
from twinvae.evaluation.three_aurocs import KINDS, Resampled, ThreeAurocs
from twinvae.scoring.table import is_trivial


def best_trivial(values: Mapping[str, float]) -> str | None:
    """The trivial score of the highest value; None when none has one."""
    defined = {n: value for n, value in values.items() if is_trivial(n) and not np.isnan(value)}
    return max(defined, key=lambda name: defined[name]) if defined else None


class Rivals:
    """All scores on the same slices and resamples."""

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
