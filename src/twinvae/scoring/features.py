"""Distances between the feature maps that VAE's encoder makes of x and of x_h, layer by layer."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from twinvae.scoring.batch import Models, SliceBatch
from twinvae.scoring.maps import abnormality_map
from twinvae.scoring.registry import Applies, score

_SOURCE = "perceptual distance (Zhang et al. 2018, LPIPS) with VAE's own encoder"
_LAYERS = range(1, 6)


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


def _register(layer: int) -> None:
    name, applies = f"features_l2_{layer}", _deep_enough(layer)

    def distance(batch: SliceBatch) -> Tensor:
        return layer_distance(batch, layer)

    def as_map(batch: SliceBatch) -> Tensor:
        return layer_map(batch, layer)

    distance.__doc__, as_map.__doc__ = layer_distance.__doc__, layer_map.__doc__
    about = f"distance of the features of encoder layer {layer} of VAE for x and x_h"
    score(name, f"L2 {about}", _SOURCE, applies=applies)(distance)
    abnormality_map(name, f"the {about}", _SOURCE, whole=None, applies=applies)(as_map)


for _layer in _LAYERS:
    _register(_layer)
