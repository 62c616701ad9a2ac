"""Residual and mirror together: what VAE-H would not have there and the other half has not.

Either alone has false alarms of its own: sulci and vessels leave residuals, ventricles of unequal
size are asymmetric. Few healthy places are both.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from twinvae.models.mirror import mirror
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.maps import MAPS, MapFunction, abnormality_map
from twinvae.scoring.registry import score

_OURS = "this project"
_SHARE = 0.5  # of the excess over the mirror image; a residual is the stronger evidence
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


def _with_maximum(name: str, summary: str) -> Callable[[MapFunction], MapFunction]:
    """Register a map that is smoothed already, and its maximum over the brain as ``NAME_local``."""

    def register(function: MapFunction) -> MapFunction:
        abnormality_map(name, summary, _OURS, whole=None, aggregators=())(function)

        @score(f"{name}_local", f"maximum over the brain of {summary}", _OURS)
        def highest(batch: SliceBatch) -> Tensor:
            """Max over the brain."""
            return batch.brain_max(MAPS[name].of(batch))

        return function

    return register


for _suffix, (_residual_is, _excess_is, _sign) in _SIGNS.items():
    _register(_suffix, _residual_is, _excess_is, _sign)
