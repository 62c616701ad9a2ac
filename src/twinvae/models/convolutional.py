"""The paper's network without its bottleneck: convolutions down, transposed convolutions up."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import ModelConfig
from twinvae.models.latent import LatentModel


class Convolutional(LatentModel):
    """Encoder and decoder of 4×4 convolutions with stride 2; see ``ModelConfig`` for its sizes.

    A kind adds the encoder, its bottleneck and the decoder in this order: it decides which weights
    a seed gives.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    expand: nn.Module

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.width = config.encoder_channels[-1]
        self.grid = config.image_size // 2 ** len(config.encoder_channels)
        self.flat = self.width * self.grid**2

    def add_encoder(self) -> None:
        """Convolutions from the image to ``width`` maps of ``grid`` × ``grid``."""
        widths = self.config.encoder_channels
        self.encoder = nn.ModuleList(
            nn.Conv2d(i, o, kernel_size=4, stride=2, padding=1)
            for i, o in zip((1, *widths[:-1]), widths, strict=True)
        )

    def add_decoder(self, expand: nn.Module) -> None:
        """``expand``, from latent variables to those maps, and convolutions back to the image."""
        self.expand = expand
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
        hidden = activate(self.expand(z), self.config).reshape(len(z), -1, self.grid, self.grid)
        for layer in self.decoder:
            hidden = activate(layer(hidden), self.config)
        raw = self.scalar_raw if self.image_raw is None else self.image_raw(hidden)
        variance = functional.softplus(raw.float()).square() + self.config.min_variance
        return self.image_mean(hidden).float(), variance


def activate(x: Tensor, config: ModelConfig) -> Tensor:
    """The non-linearity after a hidden layer."""
    return functional.elu(x) if config.activation == "elu" else functional.leaky_relu(x, 0.2)


def _up(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
