"""The map behind a score is the one whose maximum, or sum, the score is."""

from __future__ import annotations

import pytest
import torch
from test_scores import FITTED, MODELS, batch, brains

from twinvae.scoring import MAPS, SCORES
from twinvae.scoring.deciding import deciding_map

LOCAL = sorted(
    f"{name}_local"
    for name, entry in MAPS.items()
    if f"{name}_local" in SCORES and entry.applies(MODELS)
)


@pytest.mark.parametrize("name", LOCAL)
def test_a_local_score_is_the_maximum_of_its_map(name: str) -> None:
    x, brain = brains(3)
    there = batch(x, brain, fitted=FITTED)
    found = deciding_map(f"{name}_context", MODELS)
    assert (found.highest, found.exact) == (name, True)
    with torch.no_grad():
        highest = found.map.of(there).masked_fill(~brain, -torch.inf).flatten(1).amax(1)
        torch.testing.assert_close(highest, SCORES[name].compute(there))


def test_of_a_sum_over_all_pixels_no_single_pixel_has_a_level() -> None:
    found = deciding_map("image_l1", MODELS)
    assert (found.map.name, found.highest, found.exact) == ("image_l1", None, True)


def test_a_score_without_a_map_is_shown_with_the_residual() -> None:
    found = deciding_map("latent_l2", MODELS)
    assert (found.source.name, found.highest, found.exact) == ("residual", "residual_local", False)
    assert found.map.name != "residual"  # smoothed: not the same image as the map residual
