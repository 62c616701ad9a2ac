"""Augmentation of training slices, batched."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from twinvae.config import AugmentConfig

_BIAS_CELLS = 4  # knots of the smooth field along each side: no detail finer than a lobe


def augment(
    clean: Tensor, mask: Tensor | None, options: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (input, target, mask) for slices ``clean`` (batch, 1, H, W) in [0, 1].

    Flips, turns and stretches change all three; brightness, gamma and bias input and target; noise
    is added to the input alone, so that the model learns to remove it (the paper's denoising). The
    target stays in [0, 1], and black where it was.
    """
    n, device = len(clean), clean.device
    draw = torch.rand((2, n, 1, 1, 1), generator=generator, device=device)
    flipped = draw[0] < options.flip
    target = torch.where(flipped, clean.flip(-1), clean)
    if mask is not None:
        mask = torch.where(flipped, mask.flip(-1), mask)
    if options.turn_deg or options.stretch:
        target, mask = _moved(target, mask, options, generator)
    if options.brightness:
        target = (target * (1 + options.brightness * (2 * draw[1] - 1))).clamp(0, 1)
    if options.gamma or options.bias:
        target = _toned(target, options, generator)
    if not options.noise:
        return target, target, mask
    noise = torch.randn(target.shape, generator=generator, device=device)
    return target + options.noise * noise, target, mask


def _moved(
    images: Tensor, mask: Tensor | None, options: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Turned and stretched about the centre; what comes from beyond the border is black."""
    n, device = len(images), images.device
    draw = 2 * torch.rand((3, n), generator=generator, device=device) - 1
    angle = draw[0] * (torch.pi / 180 * options.turn_deg)
    x, y = 1 + options.stretch * draw[1], 1 + options.stretch * draw[2]
    zero = torch.zeros_like(angle)
    rows = [torch.stack([angle.cos() * x, -angle.sin() * y, zero], 1),
            torch.stack([angle.sin() * x, angle.cos() * y, zero], 1)]  # fmt: skip
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    if mask is not None:
        mask = functional.grid_sample(mask.float(), grid, mode="nearest", align_corners=False) > 0
    # Interpolation leaves a thin dark seam around the brain; the mask of nearest pixels cuts it.
    inside = functional.grid_sample((images > 0).float(), grid, align_corners=False) >= 0.5
    return moved * inside, mask


def _toned(images: Tensor, options: AugmentConfig, generator: torch.Generator) -> Tensor:
    """With another gamma and under another bias field, in [0, 1]."""
    n, device = len(images), images.device
    power = options.gamma * (2 * torch.rand((n, 1, 1, 1), generator=generator, device=device) - 1)
    knots = torch.randn((n, 1, _BIAS_CELLS, _BIAS_CELLS), generator=generator, device=device)
    size = list(images.shape[-2:])
    field = functional.interpolate(knots, size, mode="bicubic", align_corners=True)
    return (images ** power.exp() * (1 + options.bias * field).clamp(min=0.1)).clamp(0, 1)
