"""Variants of the paper's comparison that do not let VAE-H's blur count as abnormal.

x is sharp, x_h is not, and VAE's encoder sees that before it sees a tumour. The symmetric form
compares two reconstructions; the sharpness-matched form blurs x first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twinvae.scoring.batch import SliceBatch, gaussian_smooth
from twinvae.scoring.maps import abnormality_map
from twinvae.scoring.needs import mixed_encodes
from twinvae.scoring.registry import score

_DDAD = "two reconstructions compared: Cai et al. 2022 (DDAD), in image space"
_NARROW, _WIDE, _HALVINGS = 0.1, 16.0, 14  # full widths at half maximum, in pixels


@score(
    "latent_l2_symmetric",
    "L2 distance between VAE's posterior means of its own reconstruction of x and of x_h",
    f"variant of Albu, Enescu & Malagò 2020, Algorithm 1; {_DDAD}",
    applies=mixed_encodes,
)
def latent_l2_symmetric(batch: SliceBatch) -> Tensor:
    """‖μ(x_m) − μ(x_h)‖₂, x_m = VAE.rec(x)."""
    mean = batch.models.mixed.encode(batch.own).mean
    return (mean - batch.posterior_h.mean).square().sum(1).sqrt()


@score("image_l2_symmetric", "L2 distance between VAE's own reconstruction of x and x_h", _DDAD)
def image_l2_symmetric(batch: SliceBatch) -> Tensor:
    """‖x_m − x_h‖₂, x_m = VAE.rec(x), over all pixels."""
    return (batch.own - batch.x_h).flatten(1).square().sum(1).sqrt()


@abnormality_map("image_l1_symmetric", "|x_m − x_h|, x_m VAE's own reconstruction of x", _DDAD)
def symmetric_residual(batch: SliceBatch) -> Tensor:
    """|x_m − x_h|, (n, 1, H, W) in [0, 1]."""
    return (batch.own - batch.x_h).abs()


@score(
    "latent_l2_blurred",
    "L2 distance between VAE's posterior means of x, blurred to x_h's sharpness, and of x_h",
    "variant of Albu, Enescu & Malagò 2020, Algorithm 1: blur alone must not count",
    applies=mixed_encodes,
)
def latent_l2_blurred(batch: SliceBatch) -> Tensor:
    """‖μ(G * x) − μ(x_h)‖₂, the Gaussian G as wide as ``matching_width`` says."""
    blurred = gaussian_smooth(batch.x, matching_width(batch.x, batch.x_h))
    return (batch.models.mixed.encode(blurred).mean - batch.posterior_h.mean).square().sum(1).sqrt()


def matching_width(x: Tensor, x_h: Tensor) -> Tensor:
    """Full width at half maximum, in pixels, (n,), of the Gaussian that makes x as sharp as x_h.

    Sharpness: sum of squared differences between neighbouring pixels; blur only lowers it, so the
    width is found by halving intervals, to 0.001 pixels. Where x is not the sharper one the width
    is the least, 0.1, which changes nothing.
    """
    wanted = _sharpness(x_h)
    low = torch.full_like(wanted, _NARROW)
    high = torch.full_like(wanted, _WIDE)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_sharp = _sharpness(gaussian_smooth(x, middle)) > wanted
        low, high = torch.where(too_sharp, middle, low), torch.where(too_sharp, high, middle)
    return low


def _sharpness(image: Tensor) -> Tensor:
    down = (image[..., 1:, :] - image[..., :-1, :]).square().flatten(1).sum(1)
    across = (image[..., :, 1:] - image[..., :, :-1]).square().flatten(1).sum(1)
    return down + across
