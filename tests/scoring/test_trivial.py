"""The z-score rival: what it learns, from whom, and what it then says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_fitted import CPU, Slices
from test_scores import MODELS, SIDE, batch, brains

from twinvae.config import ScoringConfig
from twinvae.errors import CalibrationError
from twinvae.scoring import SCORES, SliceBatch, score_and_fit
from twinvae.scoring.trivial import HEALTHY_PIXELS, z_map
from twinvae.scoring.trivial import learn_pixels as learn

NAMES = ("trivial_zscore", "trivial_zscore_mean")


def at(position: float, x: torch.Tensor, brain: torch.Tensor) -> SliceBatch:
    seen = batch(x, brain)
    seen.position = torch.full((len(x),), position)
    return seen


def held_against(
    reference: list[SliceBatch], seen: SliceBatch
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The z map, and both scores by name."""
    learned = {k: torch.tensor(v, dtype=torch.float32) for k, v in learn(reference).items()}
    seen.fitted = {HEALTHY_PIXELS.name: learned}
    return z_map(seen), {name: SCORES[name].compute(seen) for name in NAMES}


def test_statistics_are_numpys_weighted_ones() -> None:
    x, brain = brains(12, seed=2)
    parts = [batch(x[:5], brain[:5]), batch(x[5:], brain[5:])]
    learned = learn(parts)
    position = np.concatenate([part.position.double().numpy() for part in parts])
    values, inside = x[:, 0].double().numpy(), brain[:, 0].numpy()
    row, column = 15, 6  # covered by some brains only
    assert 0 < inside[:, row, column].sum() < 12
    for place in (0, 7, 20):
        weight = np.exp(-0.5 * ((place / 20 - position) / 0.05) ** 2)
        everywhere = np.broadcast_to(weight[:, None, None], values.shape)[inside]
        mine = inside[:, row, column]
        sample = np.concatenate([values[mine, row, column], values[inside]])
        weights = np.concatenate(
            [weight[mine] / weight.sum(), 0.05 * everywhere / everywhere.sum()]
        )
        mean = np.average(sample, weights=weights)
        deviation = np.sqrt(np.average((sample - mean) ** 2, weights=weights))
        assert learned["mean"][place, row, column] == pytest.approx(mean, rel=1e-9)
        assert learned["deviation"][place, row, column] == pytest.approx(deviation, rel=1e-6)


def test_batches_do_not_matter() -> None:
    x, brain = brains(12, seed=2)
    one = learn([at(0.5, x, brain)])
    several = learn([at(0.5, x[i : i + 5], brain[i : i + 5]) for i in (0, 5, 10)])
    for name, array in one.items():
        np.testing.assert_allclose(array, several[name], rtol=1e-7, err_msg=name)


def test_new_healthy_slices_have_standard_deviations_of_one() -> None:
    x, brain = brains(400, seed=3)
    z, scores = held_against([at(0.5, x[:300], brain[:300])], at(0.5, x[300:], brain[300:]))
    inside = z[brain[300:]]
    assert inside.mean().item() == pytest.approx(0, abs=0.05)
    assert inside.std().item() == pytest.approx(1, abs=0.05)
    expected = inside.abs().mean().item()
    assert scores["trivial_zscore_mean"].mean().item() == pytest.approx(expected, rel=0.02)


def test_slices_are_held_against_their_own_place() -> None:
    x, brain = brains(20, seed=4)
    dark, bright = at(0.1, x, brain), at(0.9, 2 * x, brain)
    usual = held_against([dark, bright], at(0.9, 2 * x[:3], brain[:3]))[1]
    unusual = held_against([dark, bright], at(0.1, 2 * x[:3], brain[:3]))[1]
    for name in NAMES:
        assert (unusual[name] > 3 * usual[name]).all(), name


def test_only_brighter_than_usual_counts_for_the_maximum() -> None:
    x, brain = brains(20, seed=5)
    darker = x[:3].clone()
    darker[:, :, 12:17, 8:13] = 0
    usual = held_against([at(0.5, x, brain)], at(0.5, x[:3], brain[:3]))[1]
    found = held_against([at(0.5, x, brain)], at(0.5, darker, brain[:3]))[1]
    assert (found["trivial_zscore"] <= usual["trivial_zscore"]).all()
    assert (found["trivial_zscore_mean"] > usual["trivial_zscore_mean"]).all()


@pytest.mark.parametrize("slices", [1, 3])
def test_few_or_identical_or_empty_training_slices_still_give_finite_scores(slices: int) -> None:
    x, brain = brains(1)
    seen = at(0.9, *brains(4, seed=6))
    for reference in (x, torch.zeros_like(x), torch.ones_like(x)):
        for covered in (brain, torch.zeros_like(brain)):
            again = at(0.1, reference.repeat(slices, 1, 1, 1), covered.repeat(slices, 1, 1, 1))
            for name, found in held_against([again], seen)[1].items():
                assert found.isfinite().all(), name


def with_training(seed: int = 0) -> Slices:
    """Ten healthy training slices, five healthy validation and five mixed test slices."""
    slices = Slices(seed)
    slices.index.loc[:9, ["split", "subject"]] = ["train", "t"]
    return slices


def scored(slices: Slices, rows: np.ndarray) -> tuple[np.ndarray, dict]:
    scores = [SCORES[name] for name in NAMES]
    table, learned = score_and_fit(slices, rows, MODELS, scores, ScoringConfig(batch_size=4), CPU)
    return table[list(NAMES)].to_numpy(), learned


def test_only_healthy_training_slices_are_learned_from_though_not_scored() -> None:
    rows = np.arange(10, 20)
    one, other = with_training(), with_training()
    other.images[10:] = other.images[10:][::-1] // 2
    first, second = scored(one, rows), scored(other, rows)
    arrays = first[1]["healthy_pixels"]
    assert arrays["mean"].shape == arrays["deviation"].shape == (21, SIDE, SIDE)
    for name, array in arrays.items():
        assert torch.equal(array, second[1]["healthy_pixels"][name]), name
    one.index.loc[:4, "role"] = "mixed"
    assert not torch.equal(arrays["mean"], scored(one, rows)[1]["healthy_pixels"]["mean"])
    assert (first[0] != second[0]).all()


def test_missing_training_slices_are_named() -> None:
    with pytest.raises(CalibrationError, match="trivial_zscore: expected healthy training slices"):
        scored(Slices(), np.arange(20))
