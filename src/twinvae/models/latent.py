"""What models with latent variables share: decode an encoding, and the ELBO."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from twinvae.models.contract import Loss, Model
from twinvae.models.likelihood import log_density


class LatentModel(Model):
    """x → q(z | x) → p(x | z); the loss is the negative ELBO unless a kind says otherwise."""

    @abstractmethod
    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (before the sigmoid) and variance of the image for ``z`` (batch, latent).

        The mean has shape (batch, 1, H, W); the variance too, or is one number for all pixels.
        Of which distribution they are parameters is ``ModelConfig.likelihood``'s choice.
        """

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstruction of ``x`` in (0, 1): sigmoid of the mean image of the mean encoding."""
        return torch.sigmoid(self.decode(self.encode(x).mean)[0])

    def log_density(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x | z) of every pixel, as ``Model.log_density``."""
        mean, variance = self.decode(z.flatten(0, 1))
        mean = mean.reshape(*z.shape[:2], *mean.shape[1:])
        if variance.ndim:
            variance = variance.reshape(mean.shape)
        return log_density(x, mean, variance, self.config)

    def loss(
        self,
        x: Tensor,
        target: Tensor,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        mask: Tensor | None = None,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Negative ELBO of ``target`` given its (possibly noisy) copy ``x``.

        With ``x`` noisier than ``target`` this is the denoising objective of the paper; with a
        ``mask`` only pixels inside it count. Kingma & Welling 2014.
        """
        q = self.encode(x)
        log_likelihood = self.log_likelihood(target, q.sample(samples, generator), mask).mean()
        kl = q.kl_to_prior().mean()
        return Loss(kl_weight * kl - log_likelihood, log_likelihood, kl)
