"""Other bottlenecks for the paper's networks: a code for the posterior, maps for the vector.

Baur, Wiestler, Albarqouni & Navab 2018, Deep autoencoding models for unsupervised anomaly
segmentation in brain MR images. Their losses are the likelihoods `gaussian` and `laplace` here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from twinvae.errors import ConfigError
from twinvae.models.contract import DiagonalGaussian, Loss, TrainingBatch
from twinvae.models.vae import VAE


class DenseAutoencoder(VAE):
    """An autoencoder with a dense bottleneck and no prior; its code is given unit variance."""

    source: ClassVar[str] = "Baur et al. 2018 (dense AE)"
    variational: ClassVar[bool] = False
    code: nn.Module

    def build_bottleneck(self) -> None:
        """Maps to code, code to maps."""
        self.code = nn.Linear(self.flat, self.config.latent_size)
        self.expand = nn.Linear(self.config.latent_size, self.flat)

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """N(code, I); see ``Model.encode`` for what distances then mean."""
        code = self.code_of(self.features(x)[-1]).float()
        return DiagonalGaussian(code, torch.ones_like(code))

    def code_of(self, last_map: Tensor) -> Tensor:
        """The code, (batch, latent), from the encoder's last maps."""
        code: Tensor = self.code(last_map.flatten(1))
        return code

    def loss(
        self,
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(target | code of x); nothing is sampled and ``kl_weight`` has no effect."""
        code = self.encode(batch.x).mean
        log_likelihood = self.log_likelihood(batch.target, code[None], batch.mask).mean()
        return Loss(-log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))


class LatentMaps(VAE):
    """What kinds share whose ``latent_size`` numbers are maps of ``grid`` × ``grid``.

    1×1 convolutions lead to them and back; they are flat, channel by channel, outside.
    """

    spatial: ClassVar[bool] = True

    @property
    def channels(self) -> int:
        """How many such maps; ``ConfigError`` where ``latent_size`` is not a multiple of them."""
        places, size = self.grid**2, self.config.latent_size
        if size % places:
            raise ConfigError(
                f"latent_size: expected a multiple of {places} ({self.grid} × {self.grid} "
                f"places) for kind {self.config.kind}, found {size}"
            )
        return size // places

    def start(self, z: Tensor) -> Tensor:
        """The decoder's first activations, (batch, width, grid, grid)."""
        return super().start(z.reshape(len(z), -1, self.grid, self.grid))


class SpatialVAE(LatentMaps):
    """A VAE whose latent variables are maps, so that encodings differ where images do."""

    source: ClassVar[str] = "Albu, Enescu & Malagò 2020; spatial bottleneck: Baur et al. 2018"

    def build_bottleneck(self) -> None:
        """As the paper's, place by place."""
        self.posterior_mean = nn.Conv2d(self.width, self.channels, kernel_size=1)
        self.posterior_raw = nn.Conv2d(self.width, self.channels, kernel_size=1)
        self.expand = nn.Conv2d(self.channels, self.width, kernel_size=1)

    def posterior(self, last_map: Tensor) -> DiagonalGaussian:
        """Posterior given the encoder's last activations."""
        mean, raw = self.posterior_mean(last_map), self.posterior_raw(last_map)
        return DiagonalGaussian.from_parameters(mean.flatten(1), raw.flatten(1))


class SpatialAutoencoder(LatentMaps, DenseAutoencoder):
    """An autoencoder whose code is a stack of maps (latent_size numbers in all)."""

    source: ClassVar[str] = "Baur et al. 2018 (spatial AE)"

    def build_bottleneck(self) -> None:
        """Maps to code, code to maps, place by place."""
        self.code = nn.Conv2d(self.width, self.channels, kernel_size=1)
        self.expand = nn.Conv2d(self.channels, self.width, kernel_size=1)

    def code_of(self, last_map: Tensor) -> Tensor:
        """The code, (batch, latent), from the encoder's last maps."""
        code: Tensor = self.code(last_map)
        return code.flatten(1)
