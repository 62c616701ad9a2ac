"""Distances and maps of the layers of VAE's encoder, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_scores import SIDE, batch

from twinvae.scoring import SCORES, SliceBatch
from twinvae.scoring.registry import MAPS

SHAPES = [(2, 3, 8, 16), (2, 5, 2, 4), (2, 4, 1, 1)]


def seen() -> SliceBatch:
    """Two slices, twice as wide as high, and three layers of activations that differ."""
    x = torch.rand(2, 1, SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(0))
    found = batch(x, x > 0)
    found.__dict__["features"], found.__dict__["features_h"] = (
        [
            torch.randn(s, generator=torch.Generator().manual_seed(k + i))
            for i, s in enumerate(SHAPES)
        ]
        for k in (10, 20)
    )
    return found


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_distance_is_over_all_channels_and_places_of_its_own_layer(layer: int) -> None:
    given = seen()
    found = SCORES[f"features_l2_{layer}"].compute(given)
    f, f_h = (each[layer - 1].numpy() for each in (given.features, given.features_h))
    expected = [np.linalg.norm((f[i] - f_h[i]).ravel()) for i in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_map_is_the_distance_at_each_place_drawn_between_the_places(layer: int) -> None:
    given = seen()
    found = MAPS[f"features_l2_{layer}"].of(given)
    f, f_h = (each[layer - 1].numpy() for each in (given.features, given.features_h))
    each = np.linalg.norm(f - f_h, axis=1)

    def between(length: int, places: int) -> np.ndarray:
        """How much each place counts at each pixel: linearly from centre to centre."""
        at = (np.arange(length) + 0.5) * places / length - 0.5
        return np.array([np.interp(at, np.arange(places), one) for one in np.eye(places)]).T

    rows, columns = between(SIDE, each.shape[1]), between(2 * SIDE, each.shape[2])
    assert found.shape == given.x.shape
    np.testing.assert_allclose(found[:, 0], rows @ each @ columns.T, atol=1e-5)
