"""The contract of scores and maps, the lists of all of them, and which given models can give.

A score is one number a slice, a map one number a pixel; larger = more abnormal. A registered map
``NAME`` is also the score ``NAME`` (over all pixels) and ``NAME_local`` (a tumour is local, a sum
over all pixels is not), unless it says otherwise.

Other packages add scores and maps by the entry points of the group ``twinvae.scores``: a package
names a module, which registers its scores with ``score`` and its maps with ``abnormality_map`` when
it is imported::

    [project.entry-points."twinvae.scores"]
    mine = "my_package.my_scores"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from twinvae.config import matching_names
from twinvae.errors import ConfigError, DataError
from twinvae.models import LatentModel
from twinvae.scoring.batch import Fitted, Models, SliceBatch
from twinvae.scoring.table import CONTEXT_SUFFIX, is_trivial

ScoreFunction = Callable[[SliceBatch], Tensor]
MapFunction = Callable[[SliceBatch], Tensor]
Whole = Literal["sum", "mean"]
Applies = Callable[[Models], bool]
GROUP = "twinvae.scores"
_loaded: set[tuple[str, str]] = set()


def always(_models: Models) -> bool:
    """Whatever the models are."""
    return True


def mixed_encodes(models: Models) -> bool:
    """Whether the mixed model has an encoding to compare."""
    return models.mixed.has_encoding


def healthy_encodes(models: Models) -> bool:
    """Whether the healthy model has an encoding."""
    return models.healthy.has_encoding


def healthy_is_variational(models: Models) -> bool:
    """Whether the healthy model has a density and a learned posterior: else it has no ELBO."""
    return isinstance(models.healthy, LatentModel) and models.healthy.variational


def latent_model(batch: SliceBatch) -> LatentModel:
    """The healthy model, as one that decodes; for scores that need ``healthy_is_variational``."""
    model = batch.models.healthy
    if not isinstance(model, LatentModel):
        raise TypeError(f"expected a healthy model with latent variables, found {type(model)}")
    return model


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
    asks for them (``saliency.gradient``).
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
    """Whether it is set among the scan's slices once all of them are scored (`loop.in_context`)."""

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


@dataclass(frozen=True)
class AbnormalityMap:
    """One number a pixel; ``compute`` maps a batch to float32 (n, 1, H, W)."""

    name: str
    summary: str
    source: str
    compute: MapFunction
    applies: Applies = always
    """Whether these models can give it."""
    smooth: bool = False
    """Whether it is smoothed already: ``NAME_local`` is its own maximum over the brain."""

    def of(self, batch: SliceBatch) -> Tensor:
        """The map of ``batch``, computed once a batch however many scores look at it."""
        return batch.once(f"map {self.name}", self.compute)


MAPS: dict[str, AbnormalityMap] = {}


def abnormality_map(
    name: str,
    summary: str,
    source: str,
    *,
    whole: Whole | None = "sum",
    local: bool = True,
    applies: Applies = always,
) -> Callable[[MapFunction], MapFunction]:
    """Register the decorated function as the map ``name``, and the scores that follow from it.

    ``whole``: how the score ``name`` sums the map up over all pixels; None: there is no such score.
    ``local``: whether there is a score ``name_local``, see ``local_maximum``.
    """

    def register(function: MapFunction) -> MapFunction:
        if name in MAPS:
            raise ValueError(f"map {name!r} is registered twice")
        entry = AbnormalityMap(name, summary, source, function, applies, not local)
        MAPS[name] = entry
        if whole is not None:
            about = f"{whole} over all pixels of {summary}"
            score(name, about, source, applies=applies)(_over_all(entry, whole))
        if local:
            about = f"maximum over the brain, smoothed (scoring.local_fwhm_mm), of {summary}"
            score(f"{name}_local", about, source, applies=applies)(_local(entry))
        return function

    return register


def local_maximum(batch: SliceBatch, image: Tensor) -> Tensor:
    """Max over the brain of G * m, with m zero outside the brain's core: a filter for blobs.

    ``image``: m, float32 (n, 1, H, W). The core is the brain without its rim (``scoring.rim_mm``),
    by default all of it. Returns (n,); 0 for slices without brain.
    """
    return batch.brain_max(batch.smooth(image * batch.core))


def _over_all(entry: AbnormalityMap, whole: Whole) -> MapFunction:
    def compute(batch: SliceBatch) -> Tensor:
        pixels = entry.of(batch).flatten(1)
        return pixels.sum(1) if whole == "sum" else pixels.mean(1)

    compute.__doc__ = f"{whole.capitalize()} over all pixels. {entry.compute.__doc__}"
    return compute


def _local(entry: AbnormalityMap) -> MapFunction:
    def compute(batch: SliceBatch) -> Tensor:
        return local_maximum(batch, entry.of(batch))

    compute.__doc__ = f"{local_maximum.__doc__} {entry.compute.__doc__}"
    return compute


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


def require_fitted(scores: Sequence[Score], fitted: Fitted, where: str) -> None:
    """Raise ``DataError`` naming the first of ``scores`` whose fit is not in ``fitted``."""
    for score in scores:
        if score.fit is not None and score.fit.name not in fitted:
            raise DataError(
                f"{where}: expected what score {score.name} learned from healthy slices "
                f"({score.fit.name}), found {', '.join(fitted) or 'nothing'}"
            )


def select_maps(names: Iterable[str], models: Models | None = None) -> list[AbnormalityMap]:
    """The named maps, each once; patterns such as `features_*` are allowed.

    Raises ``ConfigError`` when a name or pattern means no map that ``models`` can give.
    """
    able = [name for name, entry in MAPS.items() if models is None or entry.applies(models)]
    wanted: dict[str, None] = {}
    for name in names:
        found = matching_names(name, able)
        if not found:
            raise ConfigError(f"maps: expected names among {', '.join(able)}, found {name}")
        wanted.update(dict.fromkeys(found))
    return [MAPS[name] for name in wanted]


def load_external() -> None:
    """Import what other packages offer, each once; ``ConfigError`` naming one that fails."""
    for entry in entry_points(group=GROUP):
        key = (entry.name, entry.value)
        if key in _loaded:
            continue
        _loaded.add(key)
        try:
            entry.load()
        except Exception as error:
            owner = entry.dist.name if entry.dist else "an unknown package"
            raise ConfigError(
                f"{GROUP}: entry point {entry.name} = {entry.value} of {owner} cannot be "
                f"loaded: {error}"
            ) from error
