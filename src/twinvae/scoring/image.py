"""Distances between x and its healthy reconstruction x_h in image space, and what else is healthy.

The plain ones look at x and x_h alone, or at the features that VAE's encoder makes of them, layer
by layer. The last ones hold x against three healthy counterparts together: x_h, the mirror image of
x, and what is usual at the place. Each alone has false alarms of its own: sulci and vessels leave
residuals, ventricles of unequal size are asymmetric, healthy brains are not alike. Few healthy
places are all of these.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from twinvae.scoring.batch import Models, SliceBatch, gaussian_smooth
from twinvae.scoring.registry import MAPS, Applies, MapFunction, Reference, abnormality_map, score
from twinvae.scoring.trivial import (
    HEALTHY_PIXELS,
    smoothed_excess,
    usual_deviation,
    window_excess,
)

_PRINCIPLE = "reconstruction error of one healthy model; Baur et al. 2021"
_DDAD = "two reconstructions compared: Cai et al. 2022 (DDAD), in image space"
_PERCEPTUAL = "perceptual distance (Zhang et al. 2018, LPIPS) with VAE's own encoder"
_LAYERS = range(1, 6)
_OURS = "this project"
_SHARE = 0.5  # of the excess over the mirror image; a residual is the stronger evidence
_UNUSUAL = 0.25  # of the z-score, in usual deviations: the weakest, anatomy differs most
_BRIGHT = "smoothed positive residual", "smoothed excess over the mirror image"
_DARK = "smoothed negative residual", "smoothed lack against the mirror image"


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


def _looks_for_lesions(models: Models) -> bool:
    return models.healthy.finds_lesions


@abnormality_map(
    "lesion",
    "the healthy model's probability of a lesion, learned from planted ones",
    "this project; after Tan et al. 2020 and Billot et al. 2023",
    applies=_looks_for_lesions,
)
def lesion_probability(batch: SliceBatch) -> Tensor:
    """P(lesion) inside the brain, 0 outside, (n, 1, H, W) in [0, 1]."""
    return batch.lesion * batch.inside


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
    "image_l1_symmetric", "|x_m − x_h|, x_m VAE's own reconstruction of x", _DDAD, local=False
)
def symmetric_residual(batch: SliceBatch) -> Tensor:
    """|x_m − x_h|, (n, 1, H, W) in [0, 1]."""
    return (batch.own - batch.x_h).abs()


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


def layer_distance(batch: SliceBatch, layer: int) -> Tensor:
    """‖F(x) − F(x_h)‖₂ over all channels and places of layer ``layer`` (from 1), (n,)."""
    difference = batch.features[layer - 1] - batch.features_h[layer - 1]
    return difference.flatten(1).square().sum(1).sqrt()


def layer_map(batch: SliceBatch, layer: int) -> Tensor:
    """‖F(x) − F(x_h)‖₂ over the channels at each place, interpolated to x's grid, (n, 1, H, W)."""
    difference = batch.features[layer - 1] - batch.features_h[layer - 1]
    each = difference.square().sum(1, keepdim=True).sqrt()
    size = (batch.x.shape[-2], batch.x.shape[-1])
    return functional.interpolate(each, size=size, mode="bilinear", align_corners=False)


def _deep_enough(layer: int) -> Applies:
    def applies(models: Models) -> bool:
        return layer <= len(models.mixed.config.encoder_channels)

    return applies


def _register_layer(layer: int) -> None:
    name, applies = f"features_l2_{layer}", _deep_enough(layer)

    def distance(batch: SliceBatch) -> Tensor:
        return layer_distance(batch, layer)

    def as_map(batch: SliceBatch) -> Tensor:
        return layer_map(batch, layer)

    distance.__doc__, as_map.__doc__ = layer_distance.__doc__, layer_map.__doc__
    about = f"distance of the features of encoder layer {layer} of VAE for x and x_h"
    score(name, f"L2 {about}", _PERCEPTUAL, applies=applies)(distance)
    abnormality_map(name, f"the {about}", _PERCEPTUAL, whole=None, applies=applies)(as_map)


for _layer in _LAYERS:
    _register_layer(_layer)


def smoothed_residual(batch: SliceBatch, sign: float) -> Tensor:
    """G * max(±(x − x_h), 0) without the brain's rim (``scoring.rim_mm``), (n, 1, H, W)."""

    def compute(inner: SliceBatch) -> Tensor:
        return inner.smooth((sign * inner.residual).clamp(min=0) * inner.core)

    return batch.once(f"smoothed residual {sign:+.0f}", compute)


def mirror_excess(batch: SliceBatch, sign: float) -> Tensor:
    """max(G * ±(x − m), 0), m the mirror image of x, where both halves are; (n, 1, H, W)."""
    return (sign * batch.once("smoothed mirror difference", _mirror_difference)).clamp(min=0)


def _mirror_difference(batch: SliceBatch) -> Tensor:
    """G * (x − m) where both halves are, (n, 1, H, W)."""
    return batch.smooth((batch.x - batch.mirror) * (batch.core * batch.mirrored))


def _with_maximum(
    name: str, summary: str, fit: Reference | None = None
) -> Callable[[MapFunction], MapFunction]:
    """Register a map that is smoothed already, and its maximum over the brain as ``NAME_local``."""

    def register(function: MapFunction) -> MapFunction:
        abnormality_map(name, summary, _OURS, whole=None, local=False)(function)

        @score(f"{name}_local", f"maximum over the brain of {summary}", _OURS, fit=fit)
        def highest(batch: SliceBatch) -> Tensor:
            """Max over the brain."""
            return batch.brain_max(MAPS[name].of(batch))

        return function

    return register


def _register_window(name: str, summary: str, sign: float) -> None:
    @abnormality_map(name, summary, _OURS, whole=None, local=False)
    def window(batch: SliceBatch) -> Tensor:
        """``trivial.window_excess``; its maximum is ``trivial_asymmetry_3d_window``."""
        return window_excess(batch, sign)


_register_window("excess_mirror", f"{_BRIGHT[1]}, local means", 1.0)
_register_window("excess_mirror_negative", f"{_DARK[1]}, local means", -1.0)


@_with_maximum("residual_mirrored", f"√({_BRIGHT[0]} · {_BRIGHT[1]})")
def residual_mirrored(batch: SliceBatch) -> Tensor:
    """√(residual · excess): where both agree; (n, 1, H, W)."""
    return (smoothed_residual(batch, 1.0) * mirror_excess(batch, 1.0)).clamp(
        min=0
    ).sqrt() * batch.inside


def _register_sums(suffix: str, residual: str, excess: str, sign: float) -> None:
    """The sums of two and of all three counterparts, of what is too bright or too dark.

    With the mirror image pixel by pixel (``or_mirror``) or by local means (``or_window``).
    """
    summary = f"{residual} + {_SHARE} · {excess}"

    @_with_maximum(f"residual_or_mirror{suffix}", summary)
    def either(batch: SliceBatch) -> Tensor:
        """Residual + ½ excess: where either speaks; (n, 1, H, W)."""
        return (smoothed_residual(batch, sign) + _SHARE * mirror_excess(batch, sign)) * batch.inside

    summary += f" + {_UNUSUAL} · {residual.replace('residual', 'z-score')}"

    @_with_maximum(f"residual_mirror_zscore{suffix}", summary, HEALTHY_PIXELS)
    def three(batch: SliceBatch) -> Tensor:
        """Residual + ½ excess + ¼ z-score in intensities: where any speaks; (n, 1, H, W)."""
        unusual = smoothed_excess(batch, sign) * usual_deviation(batch)
        return either(batch) + _UNUSUAL * unusual * batch.inside

    summary = f"{residual} + {excess}, local means"

    @_with_maximum(f"residual_or_window{suffix}", summary)
    def means(batch: SliceBatch) -> Tensor:
        """Residual + ``trivial.window_excess``: where either speaks; (n, 1, H, W)."""
        return (smoothed_residual(batch, sign) + window_excess(batch, sign)) * batch.inside


_register_sums("", *_BRIGHT, 1.0)
_register_sums("_negative", *_DARK, -1.0)
