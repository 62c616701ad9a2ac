"""Augmentation of training slices, batched."""

from __future__ import annotations

import torch
from torch import Tensor

from twinvae.config import AugmentConfig


def augment(
    clean: Tensor, options: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return (input, target) for slices ``clean`` (batch, 1, H, W) in [0, 1].

    Flip and brightness change both; noise is added to the input alone, so that the model learns to
    remove it (the paper's denoising). The target stays in [0, 1].
    """
    n, device = len(clean), clean.device
    draw = torch.rand((2, n, 1, 1, 1), generator=generator, device=device)
    target = torch.where(draw[0] < options.flip, clean.flip(-1), clean)
    if options.brightness:
        target = (target * (1 + options.brightness * (2 * draw[1] - 1))).clamp(0, 1)
    if not options.noise:
        return target, target
    noise = torch.randn(target.shape, generator=generator, device=device)
    return target + options.noise * noise, target
