"""Variants of the paper's comparison that do not let VAE-H's blur count as abnormal.

x is sharp, x_h is not, and VAE's encoder sees that before it sees a tumour. Here two
reconstructions are compared.
"""

from __future__ import annotations

from torch import Tensor

from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.maps import abnormality_map
from twinvae.scoring.needs import mixed_encodes
from twinvae.scoring.registry import score

_DDAD = "two reconstructions compared: Cai et al. 2022 (DDAD), in image space"


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


@abnormality_map(
    "image_l1_symmetric", "|x_m − x_h|, x_m VAE's own reconstruction of x", _DDAD, local=False
)
def symmetric_residual(batch: SliceBatch) -> Tensor:
    """|x_m − x_h|, (n, 1, H, W) in [0, 1]."""
    return (batch.own - batch.x_h).abs()
