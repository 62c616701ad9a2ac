"""Residual and mirror together: what VAE-H would not have there and the other half has not.

Either alone has false alarms of its own: sulci and vessels leave residuals, ventricles of unequal
size are asymmetric. Few healthy places are both.
"""

from __future__ import annotations

from torch import Tensor

from twinvae.models.mirror import mirror
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.maps import abnormality_map
from twinvae.scoring.registry import score

_OURS = "this project"
_BRIGHT = "√(smoothed positive residual · smoothed excess over the mirror image)"
_DARK = "√(smoothed negative residual · smoothed lack against the mirror image)"


@abnormality_map("residual_mirrored", _BRIGHT, _OURS, whole=None, aggregators=())
def residual_mirrored(batch: SliceBatch) -> Tensor:
    """√(G * max(x − x_h, 0) · max(G * (x − m), 0)), m the mirror image of x; (n, 1, H, W)."""
    return _both(batch, 1.0)


@abnormality_map("residual_mirrored_negative", _DARK, _OURS, whole=None, aggregators=())
def residual_mirrored_negative(batch: SliceBatch) -> Tensor:
    """The same for what is darker than expected and than the other half; (n, 1, H, W)."""
    return _both(batch, -1.0)


@score("residual_mirrored_local", f"maximum over the brain of {_BRIGHT}", _OURS)
def residual_mirrored_local(batch: SliceBatch) -> Tensor:
    """Max over the brain; both factors are smoothed already."""
    return batch.brain_max(batch.once("map residual_mirrored", residual_mirrored))


@score("residual_mirrored_negative_local", f"maximum over the brain of {_DARK}", _OURS)
def residual_mirrored_negative_local(batch: SliceBatch) -> Tensor:
    """Likewise."""
    return batch.brain_max(batch.once("map residual_mirrored_negative", residual_mirrored_negative))


def _both(batch: SliceBatch, sign: float) -> Tensor:
    residual = batch.smooth((sign * batch.residual).clamp(min=0) * batch.inside)
    both_halves = batch.inside * mirror(batch.inside, batch.brain)
    excess = batch.smooth(sign * (batch.x - mirror(batch.x, batch.brain)) * both_halves)
    return (residual * excess.clamp(min=0)).clamp(min=0).sqrt() * batch.inside
