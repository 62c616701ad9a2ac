"""Dissimilarities between VAE's encodings of x and of its healthy reconstruction x_h."""

from __future__ import annotations

from torch import Tensor

from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.registry import score


@score(
    "latent_l2",
    "L2 distance between VAE's posterior means of x and of x_h (the paper's score)",
    "Albu, Enescu, Malagò, Algorithm 1",
)
def latent_l2(batch: SliceBatch) -> Tensor:
    """d(x) = ‖μ(x) − μ(x_h)‖₂."""
    return (batch.posterior.mean - batch.posterior_h.mean).square().sum(dim=1).sqrt()


@score(
    "healthy_mean_norm",
    "L2 norm of VAE-H's posterior mean of x",
    "Albu, Enescu, Malagò, section 4 (second statistic compared with)",
)
def healthy_mean_norm(batch: SliceBatch) -> Tensor:
    """‖μ_H(x)‖₂: distance of the encoding from the prior's centre."""
    return batch.healthy_posterior.mean.square().sum(dim=1).sqrt()
