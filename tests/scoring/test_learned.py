"""A dissimilarity learned from planted lesions finds others, not what health shows there too."""

from __future__ import annotations

import pytest
import torch
from test_scores import MODELS, SIDE, _Healthy, batch, brains

from twinvae.config import ScoringConfig
from twinvae.scoring import MAPS, SCORES, Models, SliceBatch
from twinvae.scoring.batch import Fitted
from twinvae.scoring.learned import PLANTED_LESIONS, counterparts, learned

OPTIONS = ScoringConfig(local_fwhm_mm=8, planted="T2w")


def usual_residual(x: torch.Tensor) -> torch.Tensor:
    """What a healthy model leaves in every brain at one place; (n, 1, H, W)."""
    left = torch.zeros_like(x)
    left[..., 8:13, 13:19] = 0.25
    return left


def seen(x: torch.Tensor, brain: torch.Tensor, x_h: torch.Tensor, fit: Fitted | None = None):
    models = Models(_Healthy(x_h), MODELS.mixed)
    return batch(x, brain, models, fit, OPTIONS)


@pytest.fixture(scope="module")
def fit() -> Fitted:
    parts = []
    for seed in range(6):
        x, brain = brains(16, seed=seed)
        parts.append(seen(x, brain, x - usual_residual(x)))
    arrays = PLANTED_LESIONS.learn(parts)
    again = PLANTED_LESIONS.learn(parts)
    assert all((arrays[name] == again[name]).all() for name in arrays)
    return {PLANTED_LESIONS.name: {k: torch.tensor(v).float() for k, v in arrays.items()}}


def ill(at: tuple[slice, slice]) -> tuple[SliceBatch, SliceBatch]:
    """Healthy slices, and the same with a lesion, as seen by that healthy model; by turns."""
    x, brain = brains(8, seed=99)
    bright = x.clone()
    bright[..., at[0], at[1]] += 0.25
    return seen(x, brain, x - usual_residual(x)), seen(bright * brain, brain, x - usual_residual(x))


def test_it_tells_lesions_from_what_is_usual_at_the_place(fit: Fitted) -> None:
    healthy, lesioned = ill((slice(16, 21), slice(9, 14)))
    for each in (healthy, lesioned):
        each.fitted = fit
    with torch.no_grad():
        calm, found = (SCORES["learned_local"].compute(each) for each in (healthy, lesioned))
        assert (found > calm).all()
        fixed = [SCORES["residual_local"].compute(each) for each in (healthy, lesioned)]
        there = learned(lesioned).flatten(1).argmax(1)
        usual = fixed[1].sub(fixed[0]).abs().max()
    assert usual < 1e-6  # the fixed rule sees but the residual that every brain has
    rows, columns = there // SIDE, there % SIDE
    assert ((rows >= 15) & (rows <= 21) & (columns >= 8) & (columns <= 14)).all()


def test_the_map_is_the_probability_the_network_gives_in_nats(fit: Fitted) -> None:
    healthy, _ = ill((slice(16, 21), slice(9, 14)))
    healthy.fitted = fit
    arrays = {k: v.double().numpy() for k, v in fit[PLANTED_LESIONS.name].items()}
    with torch.no_grad():
        found = learned(healthy)
        channels = counterparts(healthy).double().numpy()
    row, column, one = 14, 17, 3
    place = round(float(healthy.position[one]) * 10)
    given = [
        *channels[one, :, row, column],
        *arrays["usual"][place, :, row * 16 // SIDE, column * 16 // SIDE],
    ]
    hidden = torch.tensor(arrays["hidden"] @ given + arrays["hidden_bias"])
    logit = arrays["out"] @ torch.log1p(hidden.exp()).numpy() + arrays["out_bias"]
    no_lesion = 1 / (1 + torch.tensor(logit).exp())
    torch.testing.assert_close(
        found[one, 0, row, column].double(), -no_lesion.log()[0], rtol=1e-4, atol=1e-5
    )
    assert (found[~healthy.brain] == 0).all()


@pytest.mark.parametrize("suffix", ["", "_negative"])
def test_agreement_is_the_geometric_mean(fit: Fitted, suffix: str) -> None:
    _, lesioned = ill((slice(16, 21), slice(9, 14)))
    lesioned.fitted = fit
    with torch.no_grad():
        found = MAPS[f"learned_agreed{suffix}"].of(lesioned)
        product = learned(lesioned) * MAPS[f"residual_or_window{suffix}"].of(lesioned)
        highest = SCORES[f"learned_agreed{suffix}_local"].compute(lesioned)
    torch.testing.assert_close(found.square(), product, rtol=1e-4, atol=1e-6)
    assert torch.equal(highest, found.flatten(1).amax(1))
    assert (highest > 0).all() or suffix
