"""What scores make of the mirror image: the flip, or the one the recipe aligned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, gaussian_filter, maximum_filter
from test_scores import batch, brains

from twinvae.config import ScoringConfig
from twinvae.models import mirror
from twinvae.scoring import MAPS, SCORES, SliceBatch

MIRRORS = [
    name
    for name in SCORES
    if name.startswith(("trivial_asymmetry_3d", "residual_mirror", "residual_or_mirror"))
    and SCORES[name].fit is None
]


def with_mirror(x: torch.Tensor, brain: torch.Tensor, aligned: torch.Tensor | None) -> SliceBatch:
    return batch(x, brain, options=ScoringConfig(local_fwhm_mm=9, rim_mm=4), aligned=aligned)


@pytest.mark.parametrize("name", MIRRORS)
def test_the_flip_given_as_the_aligned_mirror_image_changes_no_bit(name: str) -> None:
    x, brain = brains(4)
    x[:, :, 12:17, 8:13] *= 2
    flip = mirror(x, brain)
    with torch.no_grad():
        given = SCORES[name].compute(with_mirror(x, brain, flip))
        made = SCORES[name].compute(with_mirror(x, brain, None))
    assert torch.equal(given, made)
    assert (given != 0).any()


@pytest.mark.parametrize("name", MIRRORS)
def test_nothing_is_unlike_a_mirror_image_that_is_the_slice_itself(name: str) -> None:
    x, brain = brains(4)
    x[:, :, 12:17, 8:13] *= 2
    batch = with_mirror(x, brain, x)
    batch.x_h = x
    with torch.no_grad():
        assert SCORES[name].compute(batch).abs().max() == 0


@pytest.mark.parametrize(("suffix", "sign"), [("", 1), ("_negative", -1)])
def test_asymmetries_in_three_dimensions_by_hand(suffix: str, sign: int) -> None:
    x, brain = brains(3, seed=2)
    aligned, _ = brains(3, seed=5)
    aligned = aligned * brain
    aligned[:, :, 20:] = 0  # no mirror image there
    found = with_mirror(x, brain, aligned)
    names = [f"trivial_asymmetry_3d{suffix}", f"trivial_asymmetry_3d_window{suffix}"]
    pixels, window = ([*SCORES[name].compute(found).tolist()] for name in names)
    field = MAPS[f"excess_mirror{suffix}"].of(found)[:, 0].numpy()
    sigma = 9 / 3 / np.sqrt(8 * np.log(2))

    def smooth(image: np.ndarray, share: float) -> np.ndarray:
        return gaussian_filter(image, sigma * share, mode="constant", truncate=6)

    for i in range(3):
        own, other = (sign * t[i, 0].double().numpy() for t in (x, aligned))
        inside, there = brain[i, 0].numpy(), aligned[i, 0].numpy() > 0
        core = binary_erosion(inside, np.ones((5, 5)))  # 6 mm, wider than the rim of 4 mm
        halves = core & there
        assert pixels[i] == pytest.approx(smooth((own - other) * halves, 1)[halves].max(), rel=1e-4)
        both = inside & there
        best = maximum_filter(smooth(other * both, 0.5), 3, mode="constant", cval=-np.inf)
        excess = np.maximum(smooth(own * both, 0.5) - best, 0) * halves
        expected = smooth(excess, np.sqrt(0.75))
        np.testing.assert_allclose(field[i], expected * inside, atol=1e-6)
        assert window[i] == pytest.approx(expected[halves].max(), rel=1e-3, abs=1e-7)
    assert max(window) > 0


def test_the_window_forgives_what_lies_beside_its_place() -> None:
    """A bright spot whose counterpart lies 3 mm away is no excess of local means."""
    x, brain = brains(1)
    x[:, :, 13:19, 9:14] = 0.8
    batch = with_mirror(x, brain, x.roll(1, -2) * brain)
    with torch.no_grad():
        pixels = SCORES["trivial_asymmetry_3d"].compute(batch).item()
        window = SCORES["trivial_asymmetry_3d_window"].compute(batch).item()
    assert pixels > 0.05
    assert window < 0.2 * pixels
