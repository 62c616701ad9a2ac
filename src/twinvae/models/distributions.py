"""Distributions: the posterior of the latent variables, and likelihoods of pixels in [0, 1].

The paper's own likelihood, the logit-normal, is in ``vae.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TINY = 1e-6  # keeps the variance away from zero when softplus underflows


def full_precision(given: Tensor) -> Tensor:
    """``given`` in float32 if a network left it in a shorter type; else as it is.

    Densities and divergences are sums of thousands of terms and differences of near equals.
    """
    return given.float() if given.dtype in (torch.bfloat16, torch.float16) else given


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z | x) = N(mean, diag(variance)); both of shape (batch, latent)."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def from_parameters(cls, mean: Tensor, raw: Tensor) -> DiagonalGaussian:
        """Variance = softplus(raw)² + tiny, in float32 whatever the network computed in."""
        return cls(mean.float(), functional.softplus(raw.float()).square() + TINY)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``count`` reparametrised samples; shape (count, batch, latent)."""
        noise = torch.randn((count, *self.mean.shape), generator=generator, device=self.mean.device)
        return self.mean + noise * self.variance.sqrt()

    def kl_to_prior(self) -> Tensor:
        """KL(q ‖ N(0, I)) in nats, shape (batch,). Kingma & Welling 2014, appendix B."""
        mean, variance = full_precision(self.mean), full_precision(self.variance)
        terms = mean.square() + variance - 1.0 - variance.log()
        return 0.5 * terms.sum(dim=-1)


def sum_pixels(density: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of ``density`` (…, batch, 1, H, W) over pixels, or those inside ``mask``; (…, batch)."""
    density = full_precision(density)
    if mask is not None:
        density = density * mask
    return density.flatten(-3).sum(-1)


def gaussian_log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log N(x; mean, variance): squared error, weighed by a learned variance."""
    squared = (x - mean).square() / variance
    return -0.5 * (squared + torch.log(variance) + math.log(2 * math.pi))


def laplace_log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """−|x − mean| / b − log 2b with b = sqrt(variance / 2): absolute error, likewise weighed."""
    scale = (variance / 2).sqrt()
    return -(x - mean).abs() / scale - torch.log(2 * scale)
