"""The paper's variational autoencoder, top to bottom: the objective, then the networks.

Albu, Enescu & Malagò 2020; where it is silent, the authors' experiment files (argo, 2020).
The way of B slices through it, S samples each, with the paper's sizes for VAE-H:

    x                                                                  (B, 1, 64, 64) in [0, 1]
    features     4×4 convolutions of stride 2    64×32×32 → 128×16×16 → 256×8×8 → (B, 512, 4, 4)
    encode       q(z | x) = N(mean, diag(variance)), two dense layers               (B, 128) each
    sample       z = mean + noise · √variance, noise ~ N(0, I)                        (S, B, 128)
    decode       a dense layer to 512×4×4, transposed convolutions 256×8×8 → 128×16×16 → 64×32×32
                 → mean (S·B, 1, 64, 64) and variance, one number, of logit x
    log_density  log p(x | z), with logit x ~ N(mean, variance)                (S, B, 1, 64, 64)
    loss         −ELBO = KL(q(z | x) ‖ N(0, I)) − E_q[log p(x | z)]                     a number
    reconstruct  sigmoid(mean that the posterior's mean decodes to)              (B, 1, 64, 64)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import ModelConfig
from twinvae.models.contract import (
    DiagonalGaussian,
    Loss,
    Model,
    TrainingBatch,
    full_precision,
)


def logit_normal_log_density(x: Tensor, mean: Tensor, variance: Tensor, clip: float) -> Tensor:
    """Log-density of each pixel when logit(x) ~ N(mean, variance): the paper's likelihood.

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


class LatentModel(Model):
    """x → q(z | x) → p(x | z), whatever the networks; the loss is the negative ELBO."""

    @abstractmethod
    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (before the sigmoid) and variance of the image for ``z`` (batch, latent).

        The mean has shape (batch, 1, H, W); the variance too, or is one number for all pixels.
        Of which distribution they are parameters is ``ModelConfig.likelihood``'s choice.
        """

    def log_density(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x | z) of every pixel, as ``Model.log_density``."""
        mean, variance = self.decode(z.flatten(0, 1))  # (samples, batch, latent) as one batch
        mean = mean.reshape(*z.shape[:2], *mean.shape[1:])
        if variance.ndim:
            variance = variance.reshape(mean.shape)
        return log_density(x, mean, variance, self.config)

    def loss(
        self,
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Negative ELBO of ``batch.target`` given its (possibly noisy) copy ``batch.x``.

        With ``x`` noisier than ``target`` this is the denoising objective of the paper; with a
        ``mask`` only pixels inside it count. Kingma & Welling 2014.
        """
        q = self.encode(batch.x)
        z = q.sample(samples, generator)  # (samples, batch, latent)
        log_likelihood = self.log_likelihood(batch.target, z, batch.mask).mean()
        kl = q.kl_to_prior().mean()
        return Loss(kl_weight * kl - log_likelihood, log_likelihood, kl)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstruction of ``x`` in (0, 1): sigmoid of the mean image of the mean encoding."""
        return torch.sigmoid(self.decode(self.encode(x).mean)[0])


class VAE(LatentModel):
    """The paper's VAE: 4×4 convolutions of stride 2, a dense Gaussian bottleneck."""

    source: ClassVar[str] = "Albu, Enescu & Malagò 2020; Kingma & Welling 2014"
    variational: ClassVar[bool] = True

    posterior_mean: nn.Module
    posterior_raw: nn.Module
    expand: nn.Module

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        widths, ups = config.encoder_channels, config.decoder_channels
        self.width = widths[-1]
        self.grid: int = config.image_size // 2 ** len(widths)
        self.flat = self.width * self.grid**2  # numbers in the encoder's last maps
        # The order in which layers are made decides which weights a seed gives.
        self.encoder = nn.ModuleList(_down(i, o) for i, o in pairwise((1, *widths)))
        self.build_bottleneck()
        self.decoder = nn.ModuleList(_up(i, o) for i, o in pairwise((self.width, *ups)))
        last = (self.width, *ups)[-1]
        self.image_mean = _up(last, 1)
        self.image_raw: nn.Module | None = None
        if config.variance == "per_pixel":
            self.image_raw = _up(last, 1)
        else:
            self.scalar_raw = nn.Parameter(torch.zeros(()))

    def build_bottleneck(self) -> None:
        """The layers between the networks: maps to posterior, latent variables to maps."""
        self.posterior_mean = nn.Linear(self.flat, self.config.latent_size)
        self.posterior_raw = nn.Linear(self.flat, self.config.latent_size)
        self.expand = nn.Linear(self.config.latent_size, self.flat)

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every encoder layer for ``x`` (batch, 1, H, W) in [0, 1], in order.

        Each is (batch, channels, side, side), the side half of the one before; the last is
        (batch, width, grid, grid).
        """
        maps = []
        for layer in self.encoder:
            x = activate(layer(x), self.config)
            maps.append(x)
        return maps

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Posterior of the latent variables given ``x`` (batch, 1, H, W) in [0, 1]."""
        return self.posterior(self.features(x)[-1])

    def posterior(self, last_map: Tensor) -> DiagonalGaussian:
        """N(mean, diag(softplus(raw)²)), each (batch, latent), from the encoder's last maps."""
        flat = last_map.flatten(1)
        return DiagonalGaussian.from_parameters(self.posterior_mean(flat), self.posterior_raw(flat))

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As ``LatentModel.decode``."""
        hidden = self.start(z)
        for layer in self.decoder:
            hidden = activate(layer(hidden), self.config)
        return self.image(hidden)

    def start(self, z: Tensor) -> Tensor:
        """The decoder's first activations, (batch, width, grid, grid)."""
        hidden = activate(self.expand(z), self.config)
        return hidden.reshape(len(z), -1, self.grid, self.grid)

    def image(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the image from the decoder's last activations, in float32."""
        raw = self.scalar_raw if self.image_raw is None else self.image_raw(hidden)
        variance = functional.softplus(raw.float()).square() + self.config.min_variance
        return self.image_mean(hidden).float(), variance


def activate(x: Tensor, config: ModelConfig) -> Tensor:
    """The non-linearity after a hidden layer."""
    return functional.elu(x) if config.activation == "elu" else functional.leaky_relu(x, 0.2)


def _down(inputs: int, outputs: int) -> nn.Conv2d:
    """(batch, inputs, h, w) → (batch, outputs, h / 2, w / 2)."""
    return nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """(batch, inputs, h, w) → (batch, outputs, 2h, 2w)."""
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
