"""Slabs: what lies a share of the brain's height below and above a slice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from twinvae.imaging.slabs import REACH, SLAB, Slabs
from twinvae.vocabulary import FULL_SCALE


def scans(*positions: np.ndarray) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {"subject": f"s{k}", "session": "", "source": "a", "role": "mixed", "position": place}
        )
        for k, place in enumerate(positions)
    ]
    return pd.concat(parts, ignore_index=True)


def ramp(index: pd.DataFrame) -> np.ndarray:
    """Slices whose every pixel is their relative position, stored."""
    level = np.rint(index["position"].to_numpy() * FULL_SCALE).astype(np.uint16)
    return np.broadcast_to(level[:, None, None], (len(level), 4, 4)).copy()


def test_neighbours_are_interpolated_at_the_reach_whatever_the_spacing() -> None:
    index = scans(np.linspace(0, 1, 101), np.sort(np.random.default_rng(0).random(40)))
    slab = Slabs.of_index(index).cut(ramp(index), np.arange(len(index)))
    assert slab.shape == (141, SLAB, 4, 4)
    assert slab.dtype == np.float32
    for rows in index.groupby("subject").indices.values():
        place = index["position"].to_numpy()[rows]
        for k, away in enumerate((-REACH, 0.0, REACH)):
            expected = np.clip(place + away, place.min(), place.max())
            np.testing.assert_allclose(slab[rows, k, 0, 0], expected, atol=2e-5)


def test_scans_are_never_mixed_and_the_order_of_rows_does_not_matter() -> None:
    index = scans(np.linspace(0, 1, 30), np.linspace(0, 1, 30))
    images = ramp(index)
    images[30:] = FULL_SCALE
    order = np.random.default_rng(1).permutation(len(index))
    straight = Slabs.of_index(index).cut(images, order)
    shuffled = Slabs.of_index(index.iloc[order].reset_index(drop=True))
    np.testing.assert_array_equal(shuffled.cut(images[order], np.arange(len(order))), straight)
    assert (straight[order >= 30] == 1).all()


@pytest.mark.parametrize("slices", [1, 2])
def test_a_scan_of_few_slices_is_its_own_neighbour_at_the_ends(slices: int) -> None:
    index = scans(np.linspace(0, 1, slices))
    slab = Slabs.of_index(index).cut(ramp(index), np.arange(slices))
    assert slab[0, 0, 0, 0] == slab[0, 1, 0, 0]
    assert slab[-1, 2, 0, 0] == slab[-1, 1, 0, 0]


def test_the_store_s_rows_may_be_asked_for_in_any_order() -> None:
    index = scans(np.linspace(0, 1, 12))
    slabs, images = Slabs.of_index(index), ramp(index)
    whole = slabs.cut(images, np.arange(12))
    np.testing.assert_array_equal(slabs.cut(images, np.array([7, 2, 7])), whole[[7, 2, 7]])
