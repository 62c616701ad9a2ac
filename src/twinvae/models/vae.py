"""The paper's variational autoencoder: convolutions of stride 2, Gaussian posterior, logit-normal.

Albu, Enescu, Malagò, section 3; where it is silent, the authors' experiment files (argo, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import ModelConfig
from twinvae.models.likelihood import logit_normal_log_density
from twinvae.models.posterior import DiagonalGaussian


class Loss(NamedTuple):
    """Terms of the objective, each a mean over the batch, in nats a slice."""

    objective: Tensor
    """What is minimised: −log_likelihood + kl_weight · kl."""
    log_likelihood: Tensor
    """E_q[log p(x | z)], summed over pixels."""
    kl: Tensor
    """KL(q(z | x) ‖ p(z))."""


class VAE(nn.Module):
    """Encoder and decoder of 4×4 convolutions with stride 2; see ``ModelConfig`` for its sizes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.encoder_channels
        self.grid = config.image_size // 2 ** len(widths)
        flat = widths[-1] * self.grid**2

        self.encoder = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size=4, stride=2, padding=1)
            for i, o in zip((1, *widths[:-1]), widths, strict=True)
        )
        self.posterior_mean = nn.Linear(flat, config.latent_size)
        self.posterior_raw = nn.Linear(flat, config.latent_size)

        self.expand = nn.Linear(config.latent_size, flat)
        ups = (widths[-1], *config.decoder_channels)
        self.decoder = nn.ModuleList(_up(i, o) for i, o in pairwise(ups))
        self.image_mean = _up(ups[-1], 1)
        if config.variance == "per_pixel":
            self.image_raw: nn.Module | None = _up(ups[-1], 1)
        else:
            self.image_raw = None
            self.scalar_raw = nn.Parameter(torch.zeros(()))

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every encoder layer for ``x`` (batch, 1, H, W) in [0, 1], in order."""
        maps = []
        for layer in self.encoder:
            x = self._activate(layer(x))
            maps.append(x)
        return maps

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Posterior of the latent variables given ``x`` (batch, 1, H, W) in [0, 1]."""
        return self.posterior(self.features(x)[-1])

    def posterior(self, last_map: Tensor) -> DiagonalGaussian:
        """Posterior given the encoder's last activations."""
        flat = last_map.flatten(1)
        return DiagonalGaussian.from_parameters(self.posterior_mean(flat), self.posterior_raw(flat))

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logit-space mean and variance of the image for ``z`` (batch, latent).

        The mean has shape (batch, 1, H, W); the variance too, or is one number for all pixels.
        """
        hidden = self._activate(self.expand(z)).reshape(len(z), -1, self.grid, self.grid)
        for layer in self.decoder:
            hidden = self._activate(layer(hidden))
        raw = self.scalar_raw if self.image_raw is None else self.image_raw(hidden)
        variance = functional.softplus(raw.float()).square() + self.config.min_variance
        return self.image_mean(hidden).float(), variance

    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstruction of ``x`` in (0, 1): sigmoid of the mean image of the mean encoding."""
        return torch.sigmoid(self.decode(self.encode(x).mean)[0])

    def log_likelihood(self, x: Tensor, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log p(x | z) in nats, summed over pixels, or over those inside ``mask``.

        ``x`` is (batch, 1, H, W), ``mask`` likewise (bool), and ``z`` (samples, batch, latent);
        returns (samples, batch).
        """
        mean, variance = self.decode(z.flatten(0, 1))
        mean = mean.reshape(*z.shape[:2], *mean.shape[1:])
        if variance.ndim:
            variance = variance.reshape(mean.shape)
        density = logit_normal_log_density(x, mean, variance, self.config.clip)
        if mask is not None:
            density = density * mask
        return density.flatten(2).sum(-1)

    def loss(
        self,
        x: Tensor,
        target: Tensor,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Negative ELBO of ``target`` given its (possibly noisy) copy ``x``.

        Both are (batch, 1, H, W) in [0, 1]. With ``x`` noisier than ``target`` this is the
        denoising objective of the paper; with a ``mask`` only pixels inside it count.
        """
        q = self.encode(x)
        log_likelihood = self.log_likelihood(target, q.sample(samples, generator), mask).mean()
        kl = q.kl_to_prior().mean()
        return Loss(kl_weight * kl - log_likelihood, log_likelihood, kl)

    def _activate(self, x: Tensor) -> Tensor:
        if self.config.activation == "elu":
            return functional.elu(x)
        return functional.leaky_relu(x, 0.2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


def layer_table(model: VAE) -> Sequence[tuple[str, str, str, int]]:
    """One row a layer: name, what it is, output shape (channels × H × W), parameters."""
    rows: list[tuple[str, str, str, int]] = []
    hooks = []

    def record(name: str, layer: nn.Module) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            shape = "×".join(str(side) for side in output.shape[1:])
            count = sum(p.numel() for p in layer.parameters())
            rows.append((name, _what(layer), shape, count))

        hooks.append(layer.register_forward_hook(hook))

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            record(name, layer)
    side = model.config.image_size
    with torch.no_grad():
        model.reconstruct(torch.zeros(1, 1, side, side))
    for handle in hooks:
        handle.remove()
    if model.image_raw is None:
        rows.append(("scalar_raw", "one learned variance", "1", 1))
    return rows


def _what(layer: nn.Module) -> str:
    if isinstance(layer, nn.ConvTranspose2d):
        return "transposed conv 4×4, stride 2"
    return "conv 4×4, stride 2" if isinstance(layer, nn.Conv2d) else "dense"
