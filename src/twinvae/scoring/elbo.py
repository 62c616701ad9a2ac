"""What VAE-H alone says of x: its likelihood, its ELBO, and the gradients of that as maps."""

from __future__ import annotations

from torch import Tensor

from twinvae.models import LatentModel, log_density
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.latent import fixed_noise
from twinvae.scoring.registry import abnormality_map, healthy_is_variational, latent_model, score
from twinvae.scoring.saliency import gradient

_ZIMMERER = "Zimmerer et al. 2019, Unsupervised anomaly localization using VAEs (MICCAI)"
ELBO_SAMPLES = 3
"""Posterior samples behind an ELBO, as many as in training; the same noise for every slice."""


@score(
    "healthy_kl",
    "KL of VAE-H's posterior of x to the prior",
    _ZIMMERER,
    applies=healthy_is_variational,
)
def healthy_kl(batch: SliceBatch) -> Tensor:
    """KL(q_H(z|x) ‖ N(0, I)) in nats."""
    return batch.healthy_posterior.kl_to_prior()


@score(
    "healthy_elbo",
    "minus the ELBO of x under VAE-H (posterior samples of a fixed seed)",
    "Kingma & Welling 2014; for this task Zimmerer et al. 2019",
    applies=healthy_is_variational,
)
def healthy_elbo(batch: SliceBatch) -> Tensor:
    """−E_q[log p(x | z)] + KL(q_H(z|x) ‖ N(0, I)) in nats, summed over all pixels."""
    return negative_elbo(latent_model(batch), batch.x)


@score(
    "healthy_elbo_brain",
    "minus the ELBO restricted to the brain, per brain pixel",
    "the masked ELBO that Albu, Enescu & Malagò 2020 announce; area as in scores ending in _brain",
    applies=healthy_is_variational,
)
def healthy_elbo_brain(batch: SliceBatch) -> Tensor:
    """(−E_q[Σ_brain log p(x | z)] + KL) / brain pixels, in nats a pixel."""
    return negative_elbo(latent_model(batch), batch.x, batch.brain) / batch.brain_pixels


@abnormality_map(
    "image_nll",
    "−log p(x | z), z the posterior mean under VAE-H",
    "Kingma & Welling 2014; Aitchison & Shen 1980 (logit-normal)",
    applies=healthy_is_variational,
    local=False,  # it has no zero that smoothing could meet at the brain's rim
)
def negative_log_likelihood(batch: SliceBatch) -> Tensor:
    """−log p(x | z = μ_H(x)) of each pixel in nats, (n, 1, H, W); may be negative."""
    model = latent_model(batch)
    mean, variance = model.decode(batch.healthy_posterior.mean)
    return -log_density(batch.x, mean, variance, model.config)


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


def negative_elbo(model: LatentModel, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """−ELBO of ``x`` (n, 1, H, W) in nats, (n,); pixels outside ``mask`` (bool) do not count.

    z = μ + σ·ε with ``ELBO_SAMPLES`` draws ε that are the same for every slice: what a slice gets
    does not depend on the others. Differentiable with respect to ``x``.
    """
    q = model.encode(x)
    z = q.mean + fixed_noise(ELBO_SAMPLES, q.mean.shape[-1], q.mean) * q.variance.sqrt()
    return q.kl_to_prior() - model.log_likelihood(x, z, mask).mean(0)
