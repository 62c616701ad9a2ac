"""The map by occlusion: patches and what replacing them does, each written out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from twinvae.config import ScoringConfig
from twinvae.models import DiagonalGaussian
from twinvae.scoring import Models, SliceBatch
from twinvae.scoring.registry import MAPS
from twinvae.scoring.saliency import _cover

HEIGHT, WIDTH, LATENT = 6, 9, 4


@pytest.mark.parametrize(
    ("length", "side", "stride", "rows"),
    [
        (5, 3, 2, ["11000", "01110", "00011"]),
        (4, 2, 2, ["1100", "0011"]),
        (3, 2, 1, ["100", "110", "011", "001"]),
        (3, 1, 1, ["100", "010", "001"]),
        (2, 5, 3, ["11", "01"]),
    ],
)
def test_patches_reach_from_beyond_one_border_to_beyond_the_other(
    length: int, side: int, stride: int, rows: list[str]
) -> None:
    found = _cover(length, side, stride, torch.device("cpu")).int().tolist()
    assert ["".join(map(str, row)) for row in found] == rows


@pytest.mark.parametrize(
    ("pixel_mm", "patch_mm", "stride_mm", "side", "stride"),
    [
        (3.0, 9.0, 6.0, 3, 2),
        (3.0, 13.0, 10.0, 4, 3),
        (2.0, 6.0, 6.0, 3, 3),
        (8.0, 24.0, 12.0, 3, 2),  # 1.5 pixels are two
        (9.0, 24.0, 12.0, 3, 1),
        (9.0, 24.0, 3.0, 3, 1),  # a third of a pixel is one
        (40.0, 12.0, 12.0, 1, 1),
        (3.0, 6.0, 30.0, 2, 2),  # no pixel is left out
    ],
)
def test_map_is_the_mean_fall_of_the_score_over_the_patches(
    pixel_mm: float, patch_mm: float, stride_mm: float, side: int, stride: int
) -> None:
    """By loops over patches and pixels; of two slices of which the other has other pixels."""
    rng = np.random.default_rng(0)
    x, x_h = rng.random((2, 2, HEIGHT, WIDTH))
    weight = rng.normal(size=(HEIGHT * WIDTH, LATENT))
    brain = np.zeros((2, HEIGHT, WIDTH), bool)
    brain[:, 3:5, 4:8] = True

    def distance(image: np.ndarray, healthy: np.ndarray) -> float:
        return float(np.linalg.norm((image - healthy).ravel() @ weight))

    total, count = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))
    for top in (t for t in range(-side + 1, HEIGHT) if (t + side) % stride == 0):
        for left in (t for t in range(-side + 1, WIDTH) if (t + side) % stride == 0):
            patch = np.zeros((HEIGHT, WIDTH), bool)
            patch[max(top, 0) : top + side, max(left, 0) : left + side] = True
            if (patch & brain[1]).any():
                without = np.where(patch, x_h[1], x[1])
                total += patch * (distance(x[1], x_h[1]) - distance(without, x_h[1]))
                count += patch
    assert (count == 0).any()  # far from the brain
    assert (count == 1).any()
    found = _occluded(x, x_h, brain, weight, (1.5, pixel_mm), (patch_mm, stride_mm))
    np.testing.assert_allclose(found[1], total / count.clip(1), atol=1e-5)


def test_without_brain_the_map_is_zero() -> None:
    rng = np.random.default_rng(1)
    x, x_h = rng.random((2, 2, HEIGHT, WIDTH))
    weight = rng.normal(size=(HEIGHT * WIDTH, LATENT))
    brain = np.zeros((2, HEIGHT, WIDTH), bool)
    brain[1] = True
    empty, full = _occluded(x, x_h, brain, weight, (3.0, 3.0), (9.0, 6.0))
    assert (empty == 0).all()
    assert (full != 0).all()


def _occluded(
    x: np.ndarray,
    x_h: np.ndarray,
    brain: np.ndarray,
    weight: np.ndarray,
    pixel_mm: tuple[float, ...],
    mm: tuple[float, float],
) -> np.ndarray:
    """The map when the mean of the encoding is ``weight`` times the pixels."""

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32)[:, None]

    def encode(image: torch.Tensor) -> DiagonalGaussian:
        mean = image.flatten(1) @ torch.tensor(weight, dtype=torch.float32)
        return DiagonalGaussian(mean, torch.ones_like(mean))

    healthy = SimpleNamespace(reconstruct=lambda _: tensor(x_h), finds_lesions=False)
    seen = SliceBatch(
        tensor(x),
        torch.tensor(brain)[:, None],
        position=torch.zeros(2),
        brain_mm2=torch.zeros(2),
        pixel_mm=torch.tensor(pixel_mm),
        models=Models(healthy, SimpleNamespace(encode=encode)),
        options=ScoringConfig(occlusion_patch_mm=mm[0], occlusion_stride_mm=mm[1]),
    )
    return MAPS["latent_occlusion"].of(seen)[:, 0].numpy()
