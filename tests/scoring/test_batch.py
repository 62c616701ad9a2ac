"""Maps as numbers, and what batches are made of, on few pixels by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, gaussian_filter, maximum_filter
from test_fitted import CPU, Slices
from test_scores import MODELS

from twinvae.config import ScoringConfig
from twinvae.scoring import SCORES, SliceBatch
from twinvae.scoring.batch import erode, gaussian_smooth, window_maximum
from twinvae.scoring.loop import batches, scored_rows
from twinvae.scoring.registry import local_maximum
from twinvae.scoring.trivial import z_map


def seen(x: object, brain: object, pixel_mm: float = 3.0, **options: float) -> SliceBatch:
    image = torch.as_tensor(x, dtype=torch.float32)
    n = len(image)
    return SliceBatch(
        image.view(n, 1, *image.shape[1:]),
        torch.as_tensor(brain, dtype=torch.bool).view(n, 1, *image.shape[1:]),
        position=torch.linspace(0, 1, n),
        brain_mm2=torch.ones(n),
        pixel_mm=torch.full((n,), pixel_mm),
        models=MODELS,
        options=ScoringConfig.model_validate(options),
    )


def test_without_brain_every_number_is_zero() -> None:
    given = seen(np.full((1, 4, 4), 7.0), np.zeros((1, 4, 4)))
    assert local_maximum(given, given.x).tolist() == [0.0]
    assert given.brain_mean(given.x).tolist() == given.brain_max(given.x).tolist() == [0.0]


def test_mean_and_maximum_are_of_the_brain_alone() -> None:
    image = np.array([[[-3.0, -1.0], [-5.0, 9.0]]])
    given = seen(image, [[[1, 1], [1, 0]]])
    assert given.brain_mean(given.x).tolist() == [-3.0]
    assert given.brain_max(given.x).tolist() == [-1.0]
    assert given.brain_max(given.x, given.x < -2).tolist() == [-3.0]


@pytest.mark.parametrize(
    ("rim_mm", "pixels"), [(0.0, 0), (1.4, 0), (1.6, 1), (4.4, 1), (4.6, 2), (9.0, 3)]
)
def test_a_rim_of_whole_pixels_is_taken_off_all_round(rim_mm: float, pixels: int) -> None:
    """At the picture's border too; in pixels of the first slice."""
    brain = np.zeros((2, 12, 15), bool)
    brain[0, 1:11, 2:13], brain[1, 4:, :9] = True, True
    brain[0, 5, 6] = False
    found = erode(torch.tensor(brain)[:, None], rim_mm, torch.tensor([3.0, 5.0]))[:, 0].numpy()
    square = np.ones((2 * pixels + 1, 2 * pixels + 1))
    assert (found == [binary_erosion(each, square) for each in brain]).all()


@pytest.mark.parametrize("reach", [0, 1, 2, 5])
def test_the_maximum_in_a_square_is_that_of_scipy(reach: int) -> None:
    image = torch.randn(3, 1, 9, 13, generator=torch.Generator().manual_seed(reach))
    found = window_maximum(image, reach)[:, 0].numpy()
    side = 2 * reach + 1
    expected = [maximum_filter(each, side, mode="constant", cval=-np.inf) for each in image[:, 0]]
    np.testing.assert_array_equal(found, expected)


def test_each_slice_is_smoothed_by_its_own_width() -> None:
    image = torch.rand(3, 1, 20, 28, generator=torch.Generator().manual_seed(0)).double()
    widths = torch.tensor([5.0, 2.0, 5.0], dtype=torch.float64)
    found = gaussian_smooth(image, widths)[:, 0]
    for one, x, width in zip(found, image[:, 0].numpy(), widths.tolist(), strict=True):
        sigma = width / np.sqrt(8 * np.log(2))
        expected = gaussian_filter(x, sigma, mode="constant", truncate=12)
        np.testing.assert_allclose(one, expected, atol=1e-7)


def test_hyperintense_is_above_one_and_a_half_medians() -> None:
    image = [[[2.0, 2.0, 2.0], [3.0, 3.01, 2.0], [9.0, 9.0, 0.5]]]
    brain = [[[1, 1, 1], [1, 1, 1], [0, 0, 1]]]
    found = SCORES["trivial_hyperintense"].compute(seen(image, brain))
    assert found.tolist() == pytest.approx([1 / 7])


def test_closeness_to_the_middle_is_minus_the_distance() -> None:
    found = SCORES["trivial_position"].compute(seen(np.ones((5, 2, 2)), np.ones((5, 2, 2))))
    assert found.tolist() == [-0.5, -0.25, 0.0, -0.25, -0.5]


def test_z_is_by_the_nearest_of_twenty_one_places() -> None:
    position = torch.tensor([-0.3, 0.0, 0.024, 0.026, 0.51, 0.53, 0.974, 0.976, 1.0, 1.4])
    place = torch.arange(21.0).view(21, 1, 1).expand(21, 2, 2)
    given = seen(np.full((10, 2, 2), 3.0), np.ones((10, 2, 2)))
    given.position = position
    given.fitted = {"healthy_pixels": {"mean": place, "deviation": 2 + place}}
    expected = [(3 - k) / (2 + k) for k in (0, 0, 0, 1, 10, 11, 19, 20, 20, 20)]
    found = z_map(given)
    assert found.shape == (10, 1, 2, 2)
    for each in found.flatten(1).T:
        assert each.tolist() == pytest.approx(expected)
    mean = SCORES["trivial_zscore_mean"].compute(given)
    assert mean.tolist() == pytest.approx(np.abs(expected))


@pytest.mark.parametrize("batch_size", [1, 4, 5, 9])
def test_batches_hold_the_rows_in_the_order_asked_for(batch_size: int) -> None:
    slices = Slices()
    slices.index["position"] = np.linspace(0, 1, 20)
    slices.index["brain_px"] = np.arange(100, 120)
    slices.index["spacing_mm"] = np.where(np.arange(20) % 2, 0.5, 3.0)
    slices.index["pixel_mm"] = np.arange(20) + 0.25
    rows = np.array([7, 3, 19, 0, 4, 12, 11, 2, 8])
    options = ScoringConfig(batch_size=batch_size)
    parts = list(batches(slices, rows, MODELS, options, CPU))
    left = [min(batch_size, 9 - at) for at in range(0, 9, batch_size)]
    assert [len(part.x) for part in parts] == left
    x = torch.cat([part.x for part in parts])
    np.testing.assert_array_equal(x[:, 0], slices.images[rows].astype(np.float32) / 65535)
    assert (torch.cat([part.brain for part in parts])[:, 0].numpy() == slices.brain[rows]).all()
    assert torch.cat([part.pixel_mm for part in parts]).tolist() == (rows + 0.25).tolist()
    area = [(100 + row) * (0.25 if row % 2 else 9.0) for row in rows]
    assert torch.cat([part.brain_mm2 for part in parts]).tolist() == area
    position = torch.cat([part.position for part in parts])
    np.testing.assert_allclose(position, rows / 19, rtol=1e-6)


def test_all_but_training_slices_are_scored() -> None:
    slices = Slices()
    slices.index.loc[[0, 4, 19], "split"] = "train"
    assert scored_rows(slices).tolist() == [*range(1, 4), *range(5, 19)]
