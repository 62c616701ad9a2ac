"""Trivial rivals: what can be said of a slice with nothing trained. A detector must beat them."""

from __future__ import annotations

import torch
from torch import Tensor

from twinvae.models.mirror import mirror
from twinvae.scoring.batch import SliceBatch, erode
from twinvae.scoring.maps import local_maximum
from twinvae.scoring.registry import score

_RIM_MM = 6.0  # the brain's rim is never symmetric to the pixel
_OURS = "trivial rival: whoever claims a detector must beat it"


@score("trivial_position", "closeness to the middle of the brain along z", _OURS)
def position(batch: SliceBatch) -> Tensor:
    """−|position − ½|."""
    return -(batch.position - 0.5).abs()


@score("trivial_brain_area", "brain area of the slice in mm²", _OURS)
def brain_area(batch: SliceBatch) -> Tensor:
    """Area before the resize."""
    return batch.brain_mm2


@score("trivial_mean_intensity", "mean intensity over the brain", _OURS)
def mean_intensity(batch: SliceBatch) -> Tensor:
    """Sum over the brain by its size; 0 without brain."""
    return batch.brain_mean(batch.x)


@score("trivial_p99_intensity", "99th percentile of intensity over the brain", _OURS)
def p99_intensity(batch: SliceBatch) -> Tensor:
    """Linear interpolation between order statistics."""
    return _brain_quantile(batch, 0.99)


@score("trivial_hyperintense", "share of brain pixels brighter than 1.5 × the median", _OURS)
def hyperintense(batch: SliceBatch) -> Tensor:
    """Share in [0, 1]; the median is the slice's own."""
    bright = batch.x > 1.5 * _brain_quantile(batch, 0.5).view(-1, 1, 1, 1)
    return batch.brain_mean(bright)


@score("trivial_smoothed_max", "maximum over the brain of the smoothed intensity", _OURS)
def smoothed_max(batch: SliceBatch) -> Tensor:
    """The local score with nothing subtracted."""
    return local_maximum(batch, batch.x)


@score(
    "trivial_asymmetry",
    "maximum over the brain, rim eroded, of the smoothed difference from the mirror image",
    _OURS,
)
def asymmetry(batch: SliceBatch) -> Tensor:
    """Max of G * (x − mirror of x) about the midline of the slice's brain."""
    difference = batch.smooth((batch.x - mirror(batch.x, batch.brain)) * batch.brain)
    inside = erode(batch.brain, _RIM_MM, batch.pixel_mm)
    return batch.brain_max(difference, inside & mirror(inside.float(), batch.brain).bool())


def _brain_quantile(batch: SliceBatch, q: float) -> Tensor:
    values = batch.x.masked_fill(~batch.brain, torch.nan).flatten(1)
    return values.nanquantile(q, dim=1).nan_to_num(0.0)
