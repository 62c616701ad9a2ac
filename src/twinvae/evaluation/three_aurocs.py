"""Raw, matched and adjusted AUROC of every score on the same slices and the same resamples.

Raw is over all pairs of a positive and a negative slice; matched over pairs of similar brain area
and position; adjusted places each positive slice among the negatives of its own area and position.
No AUROC is shown without the other two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twinvae.config import EvaluationConfig
from twinvae.evaluation.adjusted import AdjustedDraws, Neighbours, auroc_adjusted, find_neighbours
from twinvae.evaluation.auroc import MatchedPairs, Matching, match_pairs, pair_wins
from twinvae.evaluation.resampling import BoolArray, FloatArray
from twinvae.evaluation.sample import Sample

KINDS = ("raw", "matched", "adjusted")


def metric_of(kind: str) -> str:
    """What metrics.tsv calls the AUROC of that kind."""
    return "auroc" if kind == "raw" else f"auroc_{kind}"


@dataclass(frozen=True)
class Resampled:
    """A metric and what it is in every resample."""

    value: float
    """NaN where it is undefined."""
    draws: FloatArray
    """(resamples,), NaN where it is undefined."""


class ThreeAurocs:
    """The AUROCs of all scores of one sample."""

    def __init__(
        self, sample: Sample, positive: BoolArray, draws: FloatArray, config: EvaluationConfig
    ) -> None:
        """``positive``: (n,); ``draws``: (resamples, subjects)."""
        people = (positive, sample.subject, sample.n_subjects)
        places = (*people, sample.log_area, sample.position)
        self._sample, self._people, self._draws = sample, people, draws
        similar = Matching(config.match_log_area, config.match_position)
        self.pairs: MatchedPairs = match_pairs(*places, similar)
        """The matched pairs."""
        self.neighbours: Neighbours = find_neighbours(*places, similar)
        """The negatives that the adjusted AUROC places positive slices among."""
        self._adjusted = AdjustedDraws(self.neighbours, draws)

    def of(self, name: str) -> Iterator[tuple[str, Resampled]]:
        """Each of ``KINDS`` with that AUROC of the score ``name``."""
        score = self._sample.scores[name]
        for kind, wins in (
            ("raw", pair_wins(score, *self._people)),
            ("matched", self.pairs.wins(score)),
        ):
            yield kind, Resampled(wins.auroc(), wins.resampled(self._draws))
        placed = self.neighbours.wins(score)
        yield "adjusted", Resampled(auroc_adjusted(placed), self._adjusted.resampled(placed))
