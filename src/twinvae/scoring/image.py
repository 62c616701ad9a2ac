"""Distances between x and its healthy reconstruction x_h in image space."""

from __future__ import annotations

from torch import Tensor

from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.registry import score


@score(
    "image_l2",
    "L2 distance between x and x_h over all pixels",
    "Albu, Enescu, Malagò, section 4 (first statistic compared with)",
)
def image_l2(batch: SliceBatch) -> Tensor:
    """‖x − x_h‖₂."""
    return (batch.x - batch.x_h).flatten(1).square().sum(dim=1).sqrt()


@score(
    "residual_local",
    "maximum over the brain of the positive residual x − x_h, smoothed (scoring.local_fwhm_mm)",
    "a tumour is local: a matched filter for bright blobs; compare Baur et al. 2021, section 3",
)
def residual_local(batch: SliceBatch) -> Tensor:
    """Max over the brain of G * max(x − x_h, 0), with the residual zero outside the brain."""
    return batch.brain_max(residual_map(batch))


def residual_map(batch: SliceBatch) -> Tensor:
    """Smoothed positive residual inside the brain, (n, 1, H, W) in [0, 1]."""
    return batch.smooth((batch.x - batch.x_h).clamp(min=0) * batch.brain)
