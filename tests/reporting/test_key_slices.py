"""Key slices: which ones, and what stands in their pictures."""

from __future__ import annotations

import numpy as np

from twinvae.reporting.key_slices import draw_key_slice, key_slices


def test_each_region_shows_where_it_is_largest_then_where_the_map_is_highest() -> None:
    heat, labels = np.zeros((8, 8, 40), np.float32), np.zeros((8, 8, 40), np.int32)
    labels[2:4, 2:4, 10:15] = 1
    labels[2:6, 2:6, 12] = 1
    labels[1, 1, 30] = 2
    heat[0, 0, 29], heat[0, 0, 20], heat[0, 0, 21], heat[0, 0, 5] = 9, 5, 4, 1
    assert key_slices(heat, labels) == [5, 12, 20, 30]  # 29 and 21 lie beside one that is shown
    assert key_slices(heat, labels, 3) == [12, 20, 30]
    assert key_slices(heat, labels, 1) == [12]


def test_at_most_six_and_none_where_there_is_nothing() -> None:
    heat = np.random.default_rng(0).random((4, 4, 60)).astype(np.float32)
    nothing = np.zeros_like(heat, dtype=np.int32)
    chosen = key_slices(heat, nothing)
    assert len(chosen) == 6
    assert min(np.diff(chosen)) >= 3
    assert key_slices(heat * 0, nothing) == []


def test_the_map_is_laid_over_the_slice_the_way_up_it_was_given() -> None:
    image = np.full((30, 20), 0.5)
    heat, region = np.zeros((30, 20)), np.zeros((30, 20), bool)
    heat[2:8, 12:18] = 4.0
    plain = draw_key_slice(image, heat * 0, region, aspect=1, above="A", below="B")
    picture = draw_key_slice(image, heat, region, aspect=1, above="A", below="B")
    changed = (picture.astype(int) - plain).any(2)
    rows, columns = np.nonzero(changed)
    height, width = changed.shape[0] - 80, changed.shape[1]
    assert picture.shape == plain.shape
    assert abs((rows.mean() - 40) / height - 5 / 30) < 0.02
    side = height / 30  # pixels are square
    assert abs((columns.mean() - width / 2) / side - 5) < 0.5
    assert (
        draw_key_slice(image, heat, region, aspect=2, above="A", below="B").shape[0]
        == picture.shape[0]
    )
