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


def _factors(batch: SliceBatch, sign: float) -> tuple[Tensor, Tensor]:
    """G * max(±(x − x_h), 0) and max(G * ±(x − m), 0), m the mirror image of x; (n, 1, H, W).

    Both leave out the brain's rim (``scoring.rim_mm``), the second also what has no other half.
    """
    residual = batch.smooth((sign * batch.residual).clamp(min=0) * batch.core)
    both_halves = batch.core * mirror(batch.inside, batch.brain)
    excess = batch.smooth(sign * (batch.x - mirror(batch.x, batch.brain)) * both_halves)
    return residual, excess.clamp(min=0)


def _register(suffix: str, residual: str, excess: str, sign: float) -> None:
    """The maps and scores of one sign: what is too bright, or too dark."""
    names = f"smoothed {residual} residual", f"smoothed {excess} the mirror image"

    @abnormality_map(
        f"residual_mirrored{suffix}", f"√({names[0]} · {names[1]})", _OURS,
        whole=None, aggregators=(),
    )  # fmt: skip
    def both(batch: SliceBatch) -> Tensor:
        """√(residual · excess): where both agree; (n, 1, H, W)."""
        one, other = _factors(batch, sign)
        return (one * other).clamp(min=0).sqrt() * batch.inside

    @abnormality_map(
        f"residual_or_mirror{suffix}", f"{names[0]} + {_SHARE} · {names[1]}", _OURS,
        whole=None, aggregators=(),
    )  # fmt: skip
    def either(batch: SliceBatch) -> Tensor:
        """Residual + ½ excess: where either speaks; (n, 1, H, W)."""
        one, other = _factors(batch, sign)
        return (one + _SHARE * other) * batch.inside

    for name, function in (
        (f"residual_mirrored{suffix}", both),
        (f"residual_or_mirror{suffix}", either),
    ):
        score(f"{name}_local", f"maximum over the brain of {MAPS[name].summary}", _OURS)(
            _highest(name, function)
        )


def _highest(name: str, function: MapFunction) -> Callable[[SliceBatch], Tensor]:
    def highest(batch: SliceBatch) -> Tensor:
        """Max over the brain; both parts are smoothed already."""
        return batch.brain_max(batch.once(f"map {name}", function))

    return highest


for _suffix, (_residual, _excess, _sign) in _SIGNS.items():
    _register(_suffix, _residual, _excess, _sign)
