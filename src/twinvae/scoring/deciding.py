"""The map that a score is computed from: where in the slice the score comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from twinvae.scoring.batch import Models, SliceBatch
from twinvae.scoring.registry import MAPS, AbnormalityMap
from twinvae.scoring.table import CONTEXT_SUFFIX

_LOCAL = "_local"


@dataclass(frozen=True)
class DecidingMap:
    """A map, and what it has to do with a score."""

    map: AbnormalityMap
    """As the score looks at it."""
    source: AbnormalityMap
    """The registered map that it is made of: not smoothed, with the brain's rim."""
    exact: bool
    """Whether the score comes from this map; else it has none, and this is the residual."""
    highest: str | None
    """The score that is the map's maximum over a slice's brain, before any context; None when
    there is no such score."""


def deciding_map(score: str, models: Models) -> DecidingMap:
    """The map behind ``score``, as the score looks at it; the residual where there is none.

    Of ``NAME_local`` (also in context) it is the map whose maximum the score is: smoothed, and
    without the brain's rim, where the score makes it so.
    """
    stem = score.removesuffix(CONTEXT_SUFFIX)
    able = [name for name, entry in MAPS.items() if entry.applies(models)]
    if stem.endswith(_LOCAL) and stem.removesuffix(_LOCAL) in able:
        entry = MAPS[stem.removesuffix(_LOCAL)]
        return DecidingMap(entry if entry.smooth else _smoothed(entry), entry, True, stem)
    whose = [name for name in able if stem == name or stem.startswith(f"{name}_")]
    if whose:
        entry = MAPS[max(whose, key=len)]
        return DecidingMap(entry, entry, True, None)
    residual = MAPS["residual"]
    return DecidingMap(_smoothed(residual), residual, False, "residual_local")


def _smoothed(entry: AbnormalityMap) -> AbnormalityMap:
    def compute(batch: SliceBatch) -> Tensor:
        return batch.smooth(entry.of(batch) * batch.core) * batch.inside

    return replace(
        entry, name=f"{entry.name}{_LOCAL}", summary=f"{entry.summary}, smoothed", compute=compute
    )
