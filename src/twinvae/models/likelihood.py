"""The logit-normal likelihood of pixels in (0, 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def logit_normal_log_density(x: Tensor, mean: Tensor, variance: Tensor, clip: float) -> Tensor:
    """Log-density of each pixel when logit(x) ~ N(mean, variance).

    log p(x) = log N(logit x; mean, variance) − log x − log(1 − x)

    ``x`` holds intensities in [0, 1]; it is clipped to [clip, 1 − clip] first, since the density
    has no finite value at 0 and 1. ``mean`` and ``variance`` live in logit space. The arguments
    broadcast; the result has their common shape. Atchison & Shen 1980, eq. 1.2.
    """
    x = x.clamp(clip, 1.0 - clip)
    jacobian = -torch.log(x) - torch.log1p(-x)
    squared = (torch.logit(x) - mean).square() / variance
    return -0.5 * (squared + torch.log(variance) + math.log(2 * math.pi)) + jacobian
