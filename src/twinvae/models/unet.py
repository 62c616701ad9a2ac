"""What models built as a U-Net share: an encoder, and a decoder that sees every level of it."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import ModelConfig
from twinvae.models.blocks import ConvBlock
from twinvae.models.contract import Model


class UNet(Model):
    """A U-Net, Ronneberger et al. 2015; its skip connections leave no encoding.

    ``encoder_channels`` are those of the levels from the finest to the coarsest,
    ``decoder_channels`` those of the way back up. A subclass adds what turns the last activations
    into an image.
    """

    has_encoding: ClassVar[bool] = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        widths, ups = config.encoder_channels, config.decoder_channels
        self.encoder = nn.ModuleList(ConvBlock(i, o) for i, o in pairwise((self.inputs, *widths)))
        below, skips = (widths[-1], *ups[:-1]), widths[-2::-1]
        self.decoder = nn.ModuleList(
            ConvBlock(b + s, o) for b, s, o in zip(below, skips, ups, strict=True)
        )
        self.outputs = (widths[-1], *ups)[-1]
        """Channels of what ``last`` gives."""
        # Convolutions of so few channels take three fifths of the time on a CPU this way.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def inputs(self) -> int:
        """Channels of the network's input."""
        return 1

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every level, at H × W, half of it, …, in order."""
        maps: list[Tensor] = []
        for block in self.encoder:
            x = block(functional.avg_pool2d(maps[-1], 2) if maps else x)
            maps.append(x)
        return maps

    def last(self, x: Tensor) -> Tensor:
        """Activations of the decoder's last level, (batch, ``outputs``, H, W)."""
        *skips, hidden = self.features(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            up = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = block(torch.cat([up, skip], dim=1))
        return hidden
