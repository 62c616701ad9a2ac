"""The paper's network without its bottleneck: convolutions down, transposed convolutions up."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import ModelConfig
from twinvae.errors import ConfigError
from twinvae.models.latent import LatentModel


class Convolutional(LatentModel):
    """Encoder and decoder of 4×4 convolutions with stride 2; see ``ModelConfig`` for its sizes.

    A kind adds the encoder, its bottleneck and the decoder in this order: it decides which weights
    a seed gives. The latent variables are ``latent_size`` numbers without a place or, where
    ``spatial``, maps of ``grid`` × ``grid``, flattened channel by channel.
    """

    spatial: ClassVar[bool] = False
    encoder: nn.ModuleList
    decoder: nn.ModuleList
    expand: nn.Module

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.width = config.encoder_channels[-1]
        self.grid = config.image_size // 2 ** len(config.encoder_channels)
        self.flat = self.width * self.grid**2
        if self.spatial and config.latent_size % self.grid**2:
            raise ConfigError(
                f"latent_size: expected a multiple of {self.grid**2} ({self.grid} × {self.grid} "
                f"places) for kind {config.kind}, found {config.latent_size}"
            )

    def add_encoder(self) -> None:
        """Convolutions from the image to ``width`` maps of ``grid`` × ``grid``."""
        widths = self.config.encoder_channels
        self.encoder = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size=4, stride=2, padding=1)
            for i, o in zip((1, *widths[:-1]), widths, strict=True)
        )

    def bottleneck(self) -> nn.Module:
        """A layer from those maps to the latent variables; ``read`` applies it."""
        if self.spatial:
            return nn.Conv2d(self.width, self.config.latent_size // self.grid**2, kernel_size=1)
        return nn.Linear(self.flat, self.config.latent_size)

    def read(self, layer: nn.Module, last_map: Tensor) -> Tensor:
        """What a ``bottleneck`` layer makes of the last map; (batch, latent)."""
        read: Tensor = layer(last_map if self.spatial else last_map.flatten(1))
        return read.flatten(1)

    def add_decoder(self) -> None:
        """From latent variables to such maps again, and convolutions back to the image."""
        if self.spatial:
            channels = self.config.latent_size // self.grid**2
            self.expand = nn.Conv2d(channels, self.width, kernel_size=1)
        else:
            self.expand = nn.Linear(self.config.latent_size, self.flat)
        ups = (self.width, *self.config.decoder_channels)
        self.decoder = nn.ModuleList(_up(i, o) for i, o in pairwise(ups))
        self.image_mean = _up(ups[-1], 1)
        if self.config.variance == "per_pixel":
            self.image_raw: nn.Module | None = _up(ups[-1], 1)
        else:
            self.image_raw = None
            self.scalar_raw = nn.Parameter(torch.zeros(()))

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every encoder layer for ``x`` (batch, 1, H, W) in [0, 1], in order."""
        maps = []
        for layer in self.encoder:
            x = activate(layer(x), self.config)
            maps.append(x)
        return maps

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As ``LatentModel.decode``."""
        hidden = self.start(z)
        for layer in self.decoder:
            hidden = activate(layer(hidden), self.config)
        return self.image(hidden)

    def start(self, z: Tensor) -> Tensor:
        """The decoder's first activations, (batch, width, grid, grid)."""
        if self.spatial:
            z = z.reshape(len(z), -1, self.grid, self.grid)
        hidden = activate(self.expand(z), self.config)
        return hidden.reshape(len(z), -1, self.grid, self.grid)

    def image(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the image from the decoder's last activations."""
        raw = self.scalar_raw if self.image_raw is None else self.image_raw(hidden)
        variance = functional.softplus(raw.float()).square() + self.config.min_variance
        return self.image_mean(hidden).float(), variance


def activate(x: Tensor, config: ModelConfig) -> Tensor:
    """The non-linearity after a hidden layer."""
    return functional.elu(x) if config.activation == "elu" else functional.leaky_relu(x, 0.2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
