"""Maps: one number a pixel, larger = more abnormal; and the scores that follow from each of them.

A registered map ``NAME`` is also the score ``NAME`` (over all pixels) and ``NAME_local`` (a tumour
is local, a sum over all pixels is not), unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from twinvae.config import matching_names
from twinvae.errors import ConfigError
from twinvae.scoring.batch import Models, SliceBatch
from twinvae.scoring.registry import Applies, always, score

MapFunction = Callable[[SliceBatch], Tensor]
Whole = Literal["sum", "mean"]


@dataclass(frozen=True)
class AbnormalityMap:
    """One number a pixel; ``compute`` maps a batch to float32 (n, 1, H, W)."""

    name: str
    summary: str
    source: str
    compute: MapFunction
    applies: Applies = always
    """Whether these models can give it."""

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
        entry = AbnormalityMap(name, summary, source, function, applies)
        MAPS[name] = entry
        if whole is not None:
            about = f"{whole} over all pixels of {summary}"
            score(name, about, source, applies=applies)(_over_all(entry, whole))
        if local:
            about = f"maximum over the brain, smoothed (scoring.local_fwhm_mm), of {summary}"
            score(f"{name}_local", about, source, applies=applies)(_local(entry))
        return function

    return register


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
