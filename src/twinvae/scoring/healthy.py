"""What the healthy model alone says of x: how far its encoding is from healthy, and its ELBO."""

from __future__ import annotations

from torch import Tensor

from twinvae.models import LatentModel
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.needs import healthy_is_variational, latent_model
from twinvae.scoring.posterior import fixed_noise
from twinvae.scoring.registry import score

ELBO_SAMPLES = 3
"""Posterior samples behind an ELBO, as many as in training; the same noise for every slice."""


@score(
    "healthy_kl",
    "KL of VAE-H's posterior of x to the prior",
    "Zimmerer et al. 2019, Unsupervised anomaly localization using VAEs (MICCAI)",
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


def negative_elbo(model: LatentModel, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """−ELBO of ``x`` (n, 1, H, W) in nats, (n,); pixels outside ``mask`` (bool) do not count.

    z = μ + σ·ε with ``ELBO_SAMPLES`` draws ε that are the same for every slice: what a slice gets
    does not depend on the others. Differentiable with respect to ``x``.
    """
    q = model.encode(x)
    z = q.mean + fixed_noise(ELBO_SAMPLES, q.mean.shape[-1], q.mean) * q.variance.sqrt()
    return q.kl_to_prior() - model.log_likelihood(x, z, mask).mean(0)
