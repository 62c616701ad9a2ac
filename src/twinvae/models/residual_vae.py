"""A stronger VAE: residual blocks, and latent variables at several scales.

Residual blocks as in He et al. 2016; independent Gaussian latent variables at several depths as in
Zhao, Song & Ermon 2017, Learning hierarchical features from deep generative models (VLAE).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from twinvae.config import Documented, ModelConfig
from twinvae.errors import ConfigError
from twinvae.models.blocks import ResidualBlock
from twinvae.models.contract import DiagonalGaussian
from twinvae.models.vae import VAE, activate


class ResidualOptions(Documented):
    """Settings of the stronger VAE."""

    blocks: int = Field(default=1, ge=1)
    """Residual blocks after every convolution that changes the resolution."""
    scale_channels: tuple[int, ...] = (1,)
    """Channels of latent maps at the grid twice as fine as the encoder's last, at the next finer
    one, and so on. Finer maps reconstruct more, tumours included; empty leaves them out."""


class ResidualVAE(VAE):
    """A stronger VAE: residual blocks, latent maps at finer scales beside the latent vector."""

    Options = ResidualOptions
    source: ClassVar[str] = "He et al. 2016 (blocks); Zhao, Song & Ermon 2017 (latent scales)"
    options: ResidualOptions

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        scales, depth = self.options.scale_channels, len(config.encoder_channels)
        if len(scales) >= depth or min(scales, default=1) < 1:
            raise ConfigError(
                f"options.scale_channels: expected fewer than {depth} positive numbers (finer "
                f"grids that the network has), found {list(scales)}"
            )
        finer = config.encoder_channels[-2::-1]
        self.encoder_blocks = nn.ModuleList(self._blocks(c) for c in config.encoder_channels)
        self.decoder_blocks = nn.ModuleList(self._blocks(c) for c in config.decoder_channels)
        self.scale_heads = nn.ModuleList(
            nn.Conv2d(width, 2 * c, kernel_size=1) for c, width in zip(scales, finer, strict=False)
        )
        self.scale_inputs = nn.ModuleList(
            nn.Conv2d(c, width, kernel_size=1)
            for c, width in zip(scales, config.decoder_channels, strict=False)
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations after every level's residual blocks."""
        maps = []
        for layer, blocks in zip(self.encoder, self.encoder_blocks, strict=True):
            x = blocks(activate(layer(x), self.config))
            maps.append(x)
        return maps

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Posterior of the latent vector and, after it, of the maps from coarse to fine, flat."""
        maps = self.features(x)
        posteriors = [self.posterior(maps[-1])]
        for head, finer in zip(self.scale_heads, reversed(maps[:-1]), strict=False):
            mean, raw = head(finer).chunk(2, dim=1)
            posteriors.append(DiagonalGaussian.from_parameters(mean.flatten(1), raw.flatten(1)))
        return DiagonalGaussian(
            torch.cat([q.mean for q in posteriors], dim=1),
            torch.cat([q.variance for q in posteriors], dim=1),
        )

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As ``LatentModel.decode``, for ``z`` laid out as ``encode`` does."""
        sides = [self.grid * 2 ** (level + 1) for level in range(len(self.scale_inputs))]
        counts = [c * s**2 for c, s in zip(self.options.scale_channels, sides, strict=True)]
        vector, *flat = torch.split(z, [self.config.latent_size, *counts], dim=1)
        hidden = self.start(vector)
        for level, layer in enumerate(self.decoder):
            hidden = activate(layer(hidden), self.config)
            if level < len(flat):
                place = flat[level].reshape(len(z), -1, sides[level], sides[level])
                hidden = hidden + self.scale_inputs[level](place)
            hidden = self.decoder_blocks[level](hidden)
        return self.image(hidden)

    def _blocks(self, channels: int) -> nn.Sequential:
        return nn.Sequential(*(ResidualBlock(channels) for _ in range(self.options.blocks)))
