"""The mirror image of a brain: its other hemisphere as a healthy counterpart."""

from __future__ import annotations

import torch
from torch import Tensor


def mirror(image: Tensor, brain: Tensor) -> Tensor:
    """``image`` (n, 1, H, W) mirrored left-right about the mean column of each slice's ``brain``.

    The midline is rounded to half a pixel; what comes from beyond the border is zero.
    """
    width = image.shape[-1]
    columns = torch.arange(width, device=image.device)
    weight = brain.sum(dim=(1, 2)).to(torch.float32)
    centre = (weight * columns).sum(1) / weight.sum(1).clamp(min=1)
    twice = torch.where(weight.sum(1) > 0, (2 * centre).round(), torch.full_like(centre, width - 1))
    source = twice.long()[:, None] - columns
    inside = (source >= 0) & (source < width)
    index = source.clamp(0, width - 1)[:, None, None, :].expand(image.shape)
    return image.gather(-1, index) * inside[:, None, None, :]
