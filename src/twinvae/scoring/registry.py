"""The contract of a score, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from twinvae.errors import ConfigError
from twinvae.scoring.batch import SliceBatch

ScoreFunction = Callable[[SliceBatch], Tensor]


@dataclass(frozen=True)
class Score:
    """One number a slice; larger = more abnormal.

    ``compute`` maps a batch to float32 (n,): finite, deterministic, and each slice's number
    independent of the others in the batch.
    """

    name: str
    summary: str
    source: str
    compute: ScoreFunction


SCORES: dict[str, Score] = {}


def score(name: str, summary: str, source: str) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register the decorated function as the score ``name``."""

    def register(function: ScoreFunction) -> ScoreFunction:
        if name in SCORES:
            raise ValueError(f"score {name!r} is registered twice")
        SCORES[name] = Score(name, summary, source, function)
        return function

    return register


def select_scores(names: Iterable[str]) -> list[Score]:
    """The named scores, then every trivial rival, each once; ``ConfigError`` on an unknown name."""
    wanted = list(dict.fromkeys([*names, *(n for n in SCORES if n.startswith("trivial_"))]))
    unknown = [name for name in wanted if name not in SCORES]
    if unknown:
        raise ConfigError(
            f"scoring.scores: expected names among {', '.join(SCORES)}, found {', '.join(unknown)}"
        )
    return [SCORES[name] for name in wanted]
