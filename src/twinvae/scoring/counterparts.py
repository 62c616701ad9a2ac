"""Three healthy counterparts of x together: x_h, its mirror image, and what is usual at the place.

Each alone has false alarms of its own: sulci and vessels leave residuals, ventricles of unequal
size are asymmetric, healthy brains are not alike. Few healthy places are all of these.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from twinvae.models import mirror
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.maps import MAPS, MapFunction, abnormality_map
from twinvae.scoring.registry import Reference, score
from twinvae.scoring.zscore import HEALTHY_PIXELS, smoothed_excess, usual_deviation

_OURS = "this project"
_SHARE = 0.5  # of the excess over the mirror image; a residual is the stronger evidence
_UNUSUAL = 0.25  # of the z-score, in usual deviations: the weakest, anatomy differs most
_SIGNS = {"": ("positive", "excess over", 1.0), "_negative": ("negative", "lack against", -1.0)}


def _residual(batch: SliceBatch, sign: float) -> Tensor:
    """G * max(±(x − x_h), 0) without the brain's rim (``scoring.rim_mm``), (n, 1, H, W)."""
    return batch.smooth((sign * batch.residual).clamp(min=0) * batch.core)


def _excess(batch: SliceBatch, sign: float) -> Tensor:
    """max(G * ±(x − m), 0), m the mirror image of x, where both halves are; (n, 1, H, W)."""
    both_halves = batch.core * mirror(batch.inside, batch.brain)
    excess = batch.smooth(sign * (batch.x - mirror(batch.x, batch.brain)) * both_halves)
    return excess.clamp(min=0)


def _register(suffix: str, residual: str, excess: str, sign: float) -> None:
    """The maps and scores of one sign: what is too bright, or too dark."""
    names = f"smoothed {residual} residual", f"smoothed {excess} the mirror image"

    def factors(batch: SliceBatch) -> tuple[Tensor, Tensor]:
        one = batch.once(names[0], lambda batch: _residual(batch, sign))
        return one, batch.once(names[1], lambda batch: _excess(batch, sign))

    @_with_maximum(f"residual_mirrored{suffix}", f"√({names[0]} · {names[1]})")
    def both(batch: SliceBatch) -> Tensor:
        """√(residual · excess): where both agree; (n, 1, H, W)."""
        one, other = factors(batch)
        return (one * other).clamp(min=0).sqrt() * batch.inside

    @_with_maximum(f"residual_or_mirror{suffix}", f"{names[0]} + {_SHARE} · {names[1]}")
    def either(batch: SliceBatch) -> Tensor:
        """Residual + ½ excess: where either speaks; (n, 1, H, W)."""
        one, other = factors(batch)
        return (one + _SHARE * other) * batch.inside

    summary = f"{names[0]} + {_SHARE} · {names[1]} + {_UNUSUAL} · smoothed {residual} z-score"

    @_with_maximum(f"residual_mirror_zscore{suffix}", summary, HEALTHY_PIXELS)
    def three(batch: SliceBatch) -> Tensor:
        """Residual + ½ excess + ¼ z-score in intensities: where any speaks; (n, 1, H, W)."""
        unusual = smoothed_excess(batch, sign) * usual_deviation(batch)
        return either(batch) + _UNUSUAL * unusual * batch.inside


def _with_maximum(
    name: str, summary: str, fit: Reference | None = None
) -> Callable[[MapFunction], MapFunction]:
    """Register a map that is smoothed already, and its maximum over the brain as ``NAME_local``."""

    def register(function: MapFunction) -> MapFunction:
        abnormality_map(name, summary, _OURS, whole=None, aggregators=())(function)

        @score(f"{name}_local", f"maximum over the brain of {summary}", _OURS, fit=fit)
        def highest(batch: SliceBatch) -> Tensor:
            """Max over the brain."""
            return batch.brain_max(MAPS[name].of(batch))

        return function

    return register


for _suffix, (_residual_is, _excess_is, _sign) in _SIGNS.items():
    _register(_suffix, _residual_is, _excess_is, _sign)
