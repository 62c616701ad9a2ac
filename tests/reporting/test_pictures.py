"""Small pictures: files that others read, colours that follow the map."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.image import imread

from twinvae.reporting.pictures import grey, png, with_heat


def test_png_files_are_read_by_others() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    found = imread(io.BytesIO(png(pixels)), format="png")
    np.testing.assert_array_equal(np.rint(found[..., :3] * 255), pixels)


def test_heat_is_laid_over_what_reaches_half_the_threshold() -> None:
    image = np.array([[0.2, 0.2, 0.2, 2.0]])
    relative = np.array([[0.0, 0.5, 1.0, 9.0]])
    found = with_heat(image, relative)
    np.testing.assert_array_equal(found[:, :2], grey(image)[:, :2])
    assert found[0, 2, 0] > 2 * found[0, 2, 2]  # reddish
    opacity = 0.85
    mixed = np.array([255, 240, 120]) * opacity + 255 * (1 - opacity)
    np.testing.assert_allclose(found[0, 3], mixed, atol=1)
