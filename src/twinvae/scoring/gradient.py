"""Gradients with respect to x, as maps: which pixels would have to change to look healthier.

Scores run without gradients; ``gradient`` turns them on for its own small graph and takes the
derivative with respect to x alone, so that nothing accumulates in the models.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.healthy import negative_elbo
from twinvae.scoring.maps import abnormality_map
from twinvae.scoring.needs import healthy_is_variational, latent_model, mixed_encodes

_ZIMMERER = "Zimmerer et al. 2019, Unsupervised anomaly localization using VAEs (MICCAI)"


@abnormality_map(
    "gradient_elbo", "|∂ELBO/∂x| of VAE-H", _ZIMMERER, local=False, applies=healthy_is_variational
)
def elbo_gradient(batch: SliceBatch) -> Tensor:
    """|∂ELBO_H(x)/∂x|, nats per unit of intensity, (n, 1, H, W); fixed posterior draws."""
    return gradient(lambda x: negative_elbo(latent_model(batch), x), batch.x).abs()


@abnormality_map(
    "gradient_kl", "|∂KL/∂x| of VAE-H", _ZIMMERER, local=False, applies=healthy_is_variational
)
def kl_gradient(batch: SliceBatch) -> Tensor:
    """|∂KL(q_H(z|x) ‖ N(0, I))/∂x|, nats per unit of intensity, (n, 1, H, W)."""
    healthy = batch.models.healthy

    def compute(inner: SliceBatch) -> Tensor:
        return gradient(lambda x: healthy.encode(x).kl_to_prior(), inner.x).abs()

    return batch.once("kl gradient", compute)


@abnormality_map(
    "gradient_kl_residual",
    "|∂KL/∂x| · |x − x_h| of VAE-H",
    _ZIMMERER,
    local=False,
    applies=healthy_is_variational,
)
def kl_gradient_times_residual(batch: SliceBatch) -> Tensor:
    """|∂KL/∂x| · |x − x_h|, nats, (n, 1, H, W): where both terms of the ELBO object."""
    return kl_gradient(batch) * batch.residual.abs()


@abnormality_map(
    "latent_gradient",
    "|∂d/∂x|, d the paper's score with x_h held fixed",
    "the map of Albu, Enescu & Malagò 2020, Algorithm 1; saliency as in Simonyan et al. 2014",
    local=False,
    applies=mixed_encodes,
)
def latent_gradient(batch: SliceBatch) -> Tensor:
    """|∂‖μ(x) − μ_h‖₂/∂x| with μ_h = μ(x_h) constant, latent units per intensity, (n, 1, H, W).

    At x = x_h, where the norm has no gradient, the map is 0. Always in float32: the direction of a
    small difference of encodings does not survive bf16.
    """
    mixed = batch.models_in_float32.mixed

    def distance(x: Tensor) -> Tensor:
        return ((mixed.encode(x).mean - target).square().sum(1) + 1e-12).sqrt()

    target = mixed.encode(batch.x_h).mean.detach().clone()  # x_h itself as all scores see it
    return gradient(distance, batch.x).abs()


def gradient(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∂energy/∂x, (n, 1, H, W); ``energy`` maps x to (n,), each entry from its own slice only."""
    with torch.inference_mode(False), torch.enable_grad():
        point = x.detach().clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(energy(point).sum(), point)
    return slope.float()
