"""Likelihoods of pixels in [0, 1]: logit-normal (the paper's), Gaussian, Laplace."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from twinvae.config import ModelConfig
from twinvae.models.posterior import full_precision


def log_density(x: Tensor, mean: Tensor, variance: Tensor, config: ModelConfig) -> Tensor:
    """Log-density of each pixel of ``x`` in [0, 1] under ``config.likelihood``.

    ``mean`` is the network's output before its sigmoid; ``variance`` that of logit(x) for the
    logit-normal and of x itself for the others. The arguments broadcast; the result is at least
    float32, whatever the network computed in.
    """
    x, mean, variance = full_precision(x), full_precision(mean), full_precision(variance)
    if config.likelihood == "logit_normal":
        return logit_normal_log_density(x, mean, variance, config.clip)
    density = gaussian_log_density if config.likelihood == "gaussian" else laplace_log_density
    return density(x, torch.sigmoid(mean), variance)


def sum_pixels(density: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of ``density`` (…, batch, 1, H, W) over pixels, or those inside ``mask``; (…, batch)."""
    density = full_precision(density)
    if mask is not None:
        density = density * mask
    return density.flatten(-3).sum(-1)


def logit_normal_log_density(x: Tensor, mean: Tensor, variance: Tensor, clip: float) -> Tensor:
    """Log-density of each pixel when logit(x) ~ N(mean, variance).

    log p(x) = log N(logit x; mean, variance) − log x − log(1 − x)

    ``x`` holds intensities in [0, 1]; it is clipped to [clip, 1 − clip] first, since the density
    has no finite value at 0 and 1. ``mean`` and ``variance`` live in logit space. The arguments
    broadcast; the result has their common shape. Aitchison & Shen 1980.
    """
    x = x.clamp(clip, 1.0 - clip)
    jacobian = -torch.log(x) - torch.log1p(-x)
    squared = (torch.logit(x) - mean).square() / variance
    return -0.5 * (squared + torch.log(variance) + math.log(2 * math.pi)) + jacobian


def gaussian_log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log N(x; mean, variance): squared error, weighed by a learned variance."""
    squared = (x - mean).square() / variance
    return -0.5 * (squared + torch.log(variance) + math.log(2 * math.pi))


def laplace_log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """−|x − mean| / b − log 2b with b = sqrt(variance / 2): absolute error, likewise weighed."""
    scale = (variance / 2).sqrt()
    return -(x - mean).abs() / scale - torch.log(2 * scale)
