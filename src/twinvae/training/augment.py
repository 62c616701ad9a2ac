"""Augmentation of training slices, batched."""

from __future__ import annotations

import torch
from torch import Tensor

from twinvae.config import AugmentConfig


def augment(
    clean: Tensor, mask: Tensor | None, options: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (input, target, mask) for slices ``clean`` (batch, 1, H, W) in [0, 1].

    A flip changes all three, brightness input and target; noise is added to the input alone, so
    that the model learns to remove it (the paper's denoising). The target stays in [0, 1].
    """
    n, device = len(clean), clean.device
    draw = torch.rand((2, n, 1, 1, 1), generator=generator, device=device)
    flipped = draw[0] < options.flip
    target = torch.where(flipped, clean.flip(-1), clean)
    if mask is not None:
        mask = torch.where(flipped, mask.flip(-1), mask)
    if options.brightness:
        target = (target * (1 + options.brightness * (2 * draw[1] - 1))).clamp(0, 1)
    if not options.noise:
        return target, target, mask
    noise = torch.randn(target.shape, generator=generator, device=device)
    return target + options.noise * noise, target, mask
