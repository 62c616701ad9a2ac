"""The contract of a score, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from twinvae.config import matching_names
from twinvae.errors import ConfigError
from twinvae.scoring.batch import Models, SliceBatch
from twinvae.scoring.context import CONTEXT_SUFFIX
from twinvae.scoring.table import is_trivial

ScoreFunction = Callable[[SliceBatch], Tensor]
Applies = Callable[[Models], bool]


def always(_models: Models) -> bool:
    """Whatever the models are."""
    return True


@dataclass(frozen=True)
class Fit:
    """What a score learns from healthy validation slices, and from nothing else.

    Scores that name the same ``Fit`` share it. A score finds the arrays in
    ``batch.fitted[fit.name]``, as float32 tensors.
    """

    name: str
    observe: ScoreFunction
    """What is looked at: a batch → float (n, d)."""
    learn: Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
    """All of it, (slices, d), n ≥ 1 → named arrays."""


@dataclass(frozen=True)
class Reference:
    """What a score learns from healthy training slices, and from nothing else.

    These are many and never scored, so that nothing need be left out: they are seen once, one
    batch at a time. A score finds the arrays as those of a ``Fit``.
    """

    name: str
    learn: Callable[[Iterable[SliceBatch]], dict[str, NDArray[np.float64]]]
    """All the slices, at least one → named arrays."""


@dataclass(frozen=True)
class Score:
    """One number a slice; larger = more abnormal.

    ``compute`` maps a batch to floats (n,): finite, deterministic, and each slice's number
    independent of the others in the batch. It runs without gradients; a score that needs them
    asks for them (``scoring/gradient.py``).
    """

    name: str
    summary: str
    source: str
    compute: ScoreFunction
    fit: Fit | Reference | None = None
    """What must be fitted before, if anything."""
    applies: Applies = always
    """Whether these models can give it."""
    context: bool = False
    """Whether it is set among the scan's slices once all of them are scored (`context.py`)."""

    def in_context(self) -> Score:
        """The same in the context of the scan's other slices."""
        name, summary = self.name + CONTEXT_SUFFIX, f"{self.summary}; in context"
        return replace(self, name=name, summary=summary, context=True)


SCORES: dict[str, Score] = {}


def score(
    name: str,
    summary: str,
    source: str,
    *,
    fit: Fit | Reference | None = None,
    applies: Applies = always,
) -> Callable[[ScoreFunction], ScoreFunction]:
    """Register the decorated function as the score ``name``."""

    def register(function: ScoreFunction) -> ScoreFunction:
        if name in SCORES:
            raise ValueError(f"score {name!r} is registered twice")
        if name.endswith(CONTEXT_SUFFIX):
            raise ValueError(f"score {name!r}: {CONTEXT_SUFFIX} is added to names, not part of one")
        SCORES[name] = Score(name, summary, source, function, fit, applies)
        return function

    return register


def select_scores(names: Iterable[str], models: Models | None = None) -> list[Score]:
    """The named scores, then every trivial rival, each once.

    ``names`` may hold patterns (``latent_*``) and groups (``all``, ``latent``, ``image``), which
    stand for what ``models`` can give, and any of these with ``_context`` at its end. The rivals
    are there in context too when another score is. Raises ``ConfigError`` when a name or pattern
    means no score, or a score is named that ``models`` cannot give.
    """
    wanted: dict[str, Score] = {}
    for name in names:
        stem = name.removesuffix(CONTEXT_SUFFIX)
        for entry in _named(stem, models):
            each = entry if stem == name else entry.in_context()
            wanted[each.name] = each
    rivals = [entry for entry in SCORES.values() if is_trivial(entry.name)]
    if any(entry.context for entry in wanted.values()):
        rivals += [entry.in_context() for entry in rivals]
    # A pattern such as `all` also finds trivial rivals; they always come last.
    trained = {name: entry for name, entry in wanted.items() if not is_trivial(name)}
    return [*trained.values(), *rivals]


def _named(name: str, models: Models | None) -> list[Score]:
    """What a name, pattern or group means."""
    able = [entry for entry in SCORES.values() if models is None or entry.applies(models)]
    if name in SCORES:
        found = [entry for entry in able if entry.name == name]
        if not found:
            raise ConfigError(
                f"scoring.scores: expected scores that these models can give, found {name}"
            )
        return found
    found = [SCORES[each] for each in matching_names(name, [entry.name for entry in able])]
    if not found:
        raise ConfigError(f"scoring.scores: expected names among {', '.join(SCORES)}, found {name}")
    return found
