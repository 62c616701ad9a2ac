"""Blocks of the deeper networks; normalisation is per slice, so that batches do not matter."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of about eight channels. Wu & He 2018."""
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 8)), channels)


class ConvBlock(nn.Module):
    """Two times 3×3 convolution, group norm, SiLU; (batch, i, h, w) → (batch, o, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.first_norm = group_norm(outputs)
        self.second = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.second_norm = group_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = functional.silu(self.first_norm(self.first(x)))
        return functional.silu(self.second_norm(self.second(x)))


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), 3×3; same shape. He et al. 2016 (v2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first_norm = group_norm(channels)
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.second_norm = group_norm(channels)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        hidden = self.first(functional.silu(self.first_norm(x)))
        added: Tensor = self.second(functional.silu(self.second_norm(hidden)))
        return x + added
