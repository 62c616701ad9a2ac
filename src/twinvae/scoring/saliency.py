"""Maps of the paper's score: which pixels would have to change for x to look healthier.

By gradient: scores run without gradients; ``gradient`` turns them on for its own small graph and
takes the derivative with respect to x alone, so that nothing accumulates in the models. By
occlusion: which patches, made healthy, would lower the score.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.registry import abnormality_map, mixed_encodes


@abnormality_map(
    "latent_gradient",
    "|∂d/∂x|, d the paper's score with x_h held fixed",
    "the map of Albu, Enescu & Malagò 2020, Algorithm 1; saliency as in Simonyan et al. 2014",
    local=False,
    applies=mixed_encodes,
)
def latent_gradient(batch: SliceBatch) -> Tensor:
    """|∂‖μ(x) − μ_h‖₂/∂x| with μ_h = μ(x_h) constant, latent units per intensity, (n, 1, H, W).

    At x = x_h, where the norm has no gradient, the map is 0. Always in float32: the direction of a
    small difference of encodings does not survive bf16.
    """
    mixed = batch.models_in_float32.mixed

    def distance(x: Tensor) -> Tensor:
        return ((mixed.encode(x).mean - target).square().sum(1) + 1e-12).sqrt()

    target = mixed.encode(batch.x_h).mean.detach().clone()  # x_h itself as all scores see it
    return gradient(distance, batch.x).abs()


def gradient(energy: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∂energy/∂x, (n, 1, H, W); ``energy`` maps x to (n,), each entry from its own slice only."""
    with torch.inference_mode(False), torch.enable_grad():
        point = x.detach().clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(energy(point).sum(), point)
    return slope.float()


@abnormality_map(
    "latent_occlusion",
    "the fall of the paper's score when a patch of x is replaced by x_h",
    "the map of Albu, Enescu & Malagò 2020, Algorithm 1; occlusion as in Zeiler & Fergus 2014",
    applies=mixed_encodes,
    whole=None,
    local=False,  # one pass of the encoder a patch: for looking, not for scoring
)
def latent_occlusion(batch: SliceBatch) -> Tensor:
    """Mean over the patches P that cover a pixel of d(x) − d(x with x_h in P), (n, 1, H, W).

    d(x) = ‖μ(x) − μ(x_h)‖₂ with x_h fixed, in latent units; patches are squares of
    ``scoring.occlusion_patch_mm``, ``scoring.occlusion_stride_mm`` apart, from beyond one border
    to beyond the other. Negative where x_h would look more abnormal to VAE than x does. Always in
    float32: what one patch changes does not survive bf16.
    """
    mixed = batch.models_in_float32.mixed
    healthy = mixed.encode(batch.x_h).mean  # x_h itself as all scores see it
    before = (mixed.encode(batch.x).mean - healthy).square().sum(1).sqrt()
    return torch.stack([_one_slice(batch, i, healthy[i], before[i]) for i in range(len(batch.x))])


def _one_slice(batch: SliceBatch, i: int, healthy: Tensor, before: Tensor) -> Tensor:
    """The map of slice ``i``, (1, H, W); every patch is one image of one batch."""
    pixel_mm = float(batch.pixel_mm[i])
    side = max(1, round(batch.options.occlusion_patch_mm / pixel_mm))
    stride = min(side, max(1, round(batch.options.occlusion_stride_mm / pixel_mm)))
    patches = _patches(batch.x.shape[-2], batch.x.shape[-1], side, stride, batch.x.device)
    # Patches without brain change nothing that matters and cost a pass each.
    patches = patches[(patches & batch.brain[i]).flatten(1).any(1)]
    if not len(patches):
        return torch.zeros_like(batch.x[i])
    replaced = torch.where(patches, batch.x_h[i], batch.x[i])
    mean = batch.models_in_float32.mixed.encode(replaced).mean
    after = (mean - healthy).square().sum(1).sqrt()
    weights = patches.float()
    fall = (weights * (before - after).view(-1, 1, 1, 1)).sum(0)
    return fall / weights.sum(0).clamp(min=1)


def _patches(height: int, width: int, side: int, stride: int, device: torch.device) -> Tensor:
    """Bool (patches, 1, height, width): squares on a grid that covers every pixel."""
    rows, columns = _cover(height, side, stride, device), _cover(width, side, stride, device)
    squares = rows[:, None, :, None] & columns[None, :, None, :]
    return squares.flatten(0, 1).unsqueeze(1)


def _cover(length: int, side: int, stride: int, device: torch.device) -> Tensor:
    """Bool (places, length): intervals of ``side`` from beyond one end to beyond the other."""
    starts = torch.arange(stride - side, length, stride, device=device)
    at = torch.arange(length, device=device)
    return (at >= starts[:, None]) & (at < starts[:, None] + side)
