"""Distances between x and its healthy reconstruction x_h in image space."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from twinvae.models.likelihood import log_density
from twinvae.scoring.batch import SliceBatch, gaussian_smooth
from twinvae.scoring.maps import MAPS, abnormality_map
from twinvae.scoring.needs import healthy_is_variational, latent_model
from twinvae.scoring.registry import score

_PRINCIPLE = "reconstruction error of one healthy model; Baur et al. 2021"


@score(
    "image_l2",
    "L2 distance between x and x_h over all pixels",
    "Albu, Enescu & Malagò 2020 (first statistic compared with)",
)
def image_l2(batch: SliceBatch) -> Tensor:
    """‖x − x_h‖₂."""
    return batch.residual.flatten(1).square().sum(dim=1).sqrt()


@score("image_l2_brain", "root mean square over the brain of x − x_h", _PRINCIPLE)
def image_l2_brain(batch: SliceBatch) -> Tensor:
    """√(Σ_brain (x − x_h)² / brain pixels)."""
    return batch.brain_mean(batch.residual.square()).sqrt()


@abnormality_map("image_l1", "|x − x_h|", _PRINCIPLE)
def absolute_residual(batch: SliceBatch) -> Tensor:
    """|x − x_h|, (n, 1, H, W) in [0, 1]."""
    return batch.residual.abs()


@score("image_l1_brain", "mean over the brain of |x − x_h|", _PRINCIPLE)
def image_l1_brain(batch: SliceBatch) -> Tensor:
    """Σ_brain |x − x_h| / brain pixels."""
    return batch.brain_mean(MAPS["image_l1"].of(batch))


@abnormality_map(
    "residual",
    "the positive residual x − x_h",
    "a tumour is bright in T2w and FLAIR; compare Baur et al. 2021",
)
def positive_residual(batch: SliceBatch) -> Tensor:
    """max(x − x_h, 0) inside the brain, 0 outside, (n, 1, H, W) in [0, 1]."""
    return batch.residual.clamp(min=0) * batch.inside


@abnormality_map(
    "residual_negative",
    "the negative residual x_h − x",
    "what is darker than expected: necrosis, swelling into dark tissue; compare Baur et al. 2021",
)
def negative_residual(batch: SliceBatch) -> Tensor:
    """max(x_h − x, 0) inside the brain, 0 outside, (n, 1, H, W) in [0, 1]."""
    return batch.residual.neg().clamp(min=0) * batch.inside


@abnormality_map(
    "image_ssim",
    "one minus the structural similarity of x and x_h",
    "Wang, Bovik, Sheikh & Simoncelli 2004, eq. 13; for anomalies Bergmann et al. 2019",
    whole="mean",
)
def structural_dissimilarity(batch: SliceBatch) -> Tensor:
    """1 − SSIM(x, x_h), (n, 1, H, W) in [0, 2]; window: Gaussian, σ = 1.5 pixels."""
    return 1 - structural_similarity(batch.x, batch.x_h)


@abnormality_map(
    "image_nll",
    "−log p(x | z), z the posterior mean under VAE-H",
    "Kingma & Welling 2014; Aitchison & Shen 1980 (logit-normal)",
    applies=healthy_is_variational,
    local=False,  # it has no zero that smoothing could meet at the brain's rim
)
def negative_log_likelihood(batch: SliceBatch) -> Tensor:
    """−log p(x | z = μ_H(x)) of each pixel in nats, (n, 1, H, W); may be negative."""
    model = latent_model(batch)
    mean, variance = model.decode(batch.healthy_posterior.mean)
    return -log_density(batch.x, mean, variance, model.config)


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of two images (n, 1, H, W) of range 1 at every pixel; borders are mirrored.

    (2 μ_a μ_b + c₁)(2 σ_ab + c₂) / ((μ_a² + μ_b² + c₁)(σ_a² + σ_b² + c₂)), moments under a
    Gaussian window of σ = 1.5 pixels, c₁ = 0.01², c₂ = 0.03².
    """
    mean_a, mean_b = _window(a), _window(b)
    var_a = _window(a * a) - mean_a.square()
    var_b = _window(b * b) - mean_b.square()
    cov = _window(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return top / ((mean_a.square() + mean_b.square() + c1) * (var_a + var_b + c2))


def _window(image: Tensor) -> Tensor:
    """Mean under the window, the image mirrored at its borders."""
    reach = 6
    padded = functional.pad(image, (reach,) * 4, mode="reflect")
    width = image.new_full((len(image),), 1.5 * 2.3548200450309493)
    return gaussian_smooth(padded, width)[..., reach:-reach, reach:-reach]
