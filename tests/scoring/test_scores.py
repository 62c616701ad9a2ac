"""One contract for every score, and each against an independent calculation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from twinvae.config import ModelConfig, ScoringConfig
from twinvae.errors import ConfigError
from twinvae.models import build_model
from twinvae.scoring import SCORES, Models, SliceBatch, select_scores
from twinvae.scoring.batch import gaussian_smooth
from twinvae.scoring.registry import score
from twinvae.scoring.trivial import mirror

SIDE = 32
NET = ModelConfig(
    image_size=SIDE,
    encoder_channels=(4, 8),
    decoder_channels=(4,),
    latent_size=6,
    variance="scalar",
)
MODELS = Models(build_model(NET, 0).eval(), build_model(NET, 1).eval())
RIVALS_OF_PLACE = ("trivial_position", "trivial_brain_area")  # see where, not what


def brains(n: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric elliptic brains with some texture, about the middle column."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    radius = 11 + 2 * torch.rand(n, 1, 1, 1, generator=g)
    brain = ((x - 15.5) / 0.8) ** 2 + (y - 15.5) ** 2 < radius**2
    texture = 0.3 + 0.05 * torch.rand(n, 1, SIDE, SIDE, generator=g)
    return (texture + texture.flip(-1)) / 2 * brain, brain


def batch(x: torch.Tensor, brain: torch.Tensor, models: Models = MODELS) -> SliceBatch:
    n = len(x)
    return SliceBatch(
        x,
        brain,
        position=torch.linspace(0.2, 0.9, n),
        brain_mm2=brain.flatten(1).sum(1).float() * 9,
        pixel_mm=torch.full((n,), 3.0),
        models=models,
        options=ScoringConfig(local_fwhm_mm=8),
    )


def values(name: str, x: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return SCORES[name].compute(batch(x, brain))


@pytest.mark.parametrize("name", sorted(SCORES))
def test_score_is_finite_deterministic_and_one_number_a_slice(name: str) -> None:
    x, brain = brains()
    first, second = values(name, x, brain), values(name, x, brain)
    assert first.shape == (5,)
    assert first.isfinite().all()
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_score_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    x, brain = brains()
    together = batch(x, brain)
    with torch.inference_mode():
        whole = SCORES[name].compute(together)
        for i in range(5):
            alone = batch(x[i : i + 1], brain[i : i + 1])
            alone.position = together.position[i : i + 1]
            one = SCORES[name].compute(alone)
            torch.testing.assert_close(one, whole[i : i + 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(SCORES) - set(RIVALS_OF_PLACE)))
def test_score_survives_slices_without_brain(name: str) -> None:
    empty = torch.zeros(2, 1, SIDE, SIDE)
    assert values(name, empty, empty.bool()).isfinite().all()


class _Healthy(torch.nn.Module):
    """A perfect healthy model: it gives the brain back without the lesion."""

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean
        self.encode = MODELS.healthy.encode

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return self.clean


@pytest.mark.parametrize(
    "name", ["latent_l2", "image_l2", "residual_local", "trivial_asymmetry", "trivial_smoothed_max",
             "trivial_p99_intensity", "trivial_hyperintense", "trivial_mean_intensity"]
)  # fmt: skip
def test_planted_lesion_raises_the_score(name: str) -> None:
    clean, brain = brains()
    sick = clean.clone()
    sick[:, :, 12:17, 8:13] = 0.9
    models = Models(_Healthy(clean), MODELS.mixed)
    with torch.inference_mode():
        before = SCORES[name].compute(batch(clean, brain, models))
        after = SCORES[name].compute(batch(sick, brain, models))
    assert (after > before).all()


@pytest.mark.parametrize("name", ["latent_l2", "image_l2", "residual_local"])
def test_dissimilarity_is_zero_when_the_reconstruction_is_perfect(name: str) -> None:
    clean, brain = brains()
    with torch.inference_mode():
        score = SCORES[name].compute(batch(clean, brain, Models(_Healthy(clean), MODELS.mixed)))
    torch.testing.assert_close(score, torch.zeros(5))


def test_paper_scores_are_the_papers_formulas() -> None:
    x, brain = brains()
    with torch.inference_mode():
        x_h = torch.sigmoid(MODELS.healthy.decode(MODELS.healthy.encode(x).mean)[0])
        for i in range(5):
            mu, mu_h = (MODELS.mixed.encode(s[i : i + 1]).mean.numpy().ravel() for s in (x, x_h))
            assert values("latent_l2", x, brain)[i].item() == pytest.approx(
                np.linalg.norm(mu - mu_h), rel=1e-4
            )
            assert values("image_l2", x, brain)[i].item() == pytest.approx(
                np.linalg.norm((x[i] - x_h[i]).numpy()), rel=1e-5
            )
            norm = np.linalg.norm(MODELS.healthy.encode(x[i : i + 1]).mean.numpy())
            assert values("healthy_mean_norm", x, brain)[i].item() == pytest.approx(norm, rel=1e-4)


def test_local_score_is_the_maximum_of_the_smoothed_positive_residual() -> None:
    x, brain = brains()
    with torch.inference_mode():
        residual = ((x - MODELS.healthy.reconstruct(x)).clamp(min=0) * brain).numpy()
        ours = values("residual_local", x, brain).numpy()
    sigma = 8 / 2.3548 / 3.0
    for i in range(5):
        smooth = gaussian_filter(residual[i, 0].astype(float), sigma, mode="constant", truncate=10)
        assert ours[i] == pytest.approx(smooth[brain[i, 0].numpy()].max(), rel=1e-3)


def test_smoothing_agrees_with_scipy_and_keeps_the_sum_inside() -> None:
    image = torch.zeros(2, 1, 33, 33)
    image[:, :, 16, 16] = 1
    out = gaussian_smooth(image, torch.tensor([3.0, 6.0]))
    for i, width in enumerate((3.0, 6.0)):
        expected = gaussian_filter(image[i, 0].numpy(), width / 2.354820045, truncate=12)
        np.testing.assert_allclose(out[i, 0].numpy(), expected, atol=1e-5)
    assert out[0].sum().item() == pytest.approx(1, abs=1e-5)


def test_trivial_intensities_are_what_numpy_says() -> None:
    x, brain = brains()
    for i in range(5):
        inside = x[i][brain[i]].numpy()
        expected = {
            "trivial_mean_intensity": inside.mean(),
            "trivial_p99_intensity": np.percentile(inside, 99),
            "trivial_hyperintense": (inside > 1.5 * np.median(inside)).mean(),
            "trivial_brain_area": inside.size * 9,
        }
        for name, value in expected.items():
            assert values(name, x, brain)[i].item() == pytest.approx(value, rel=1e-5), name


def test_mirror_is_about_the_brains_own_midline() -> None:
    x, brain = brains(1)
    torch.testing.assert_close(mirror(x, brain), x)
    moved, moved_brain = x.roll(3, -1), brain.roll(3, -1)
    torch.testing.assert_close(mirror(moved, moved_brain), moved)
    assert values("trivial_asymmetry", moved, moved_brain).item() == pytest.approx(0, abs=1e-6)


def test_symmetric_brain_has_no_asymmetry_and_either_side_counts_alike() -> None:
    x, brain = brains(1)
    assert values("trivial_asymmetry", x, brain).item() == pytest.approx(0, abs=1e-6)
    x[:, :, 12:17, 8:13] = 0.9
    left = values("trivial_asymmetry", x, brain).item()
    assert left > 0.3
    right = values("trivial_asymmetry", x.flip(-1), brain.flip(-1)).item()
    assert left == pytest.approx(right, rel=1e-5)


def test_position_is_highest_in_the_middle() -> None:
    x, brain = brains(5)
    scores = values("trivial_position", x, brain)
    middle = (torch.linspace(0.2, 0.9, 5) - 0.5).abs().argmin()
    assert scores.argmax() == middle


def test_trivial_rivals_are_always_in_and_unknown_names_are_refused() -> None:
    names = [s.name for s in select_scores(["image_l2", "image_l2"])]
    assert names[0] == "image_l2"
    assert names[1:] == [n for n in SCORES if n.startswith("trivial_")]
    with pytest.raises(ConfigError, match=r"expected names among .*latent_l2.*found no_such"):
        select_scores(["no_such"])


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        score("latent_l2", "again", "nobody")(lambda batch: batch.position)


def test_every_score_says_what_it_is_and_where_it_comes_from() -> None:
    for entry in SCORES.values():
        assert len(entry.summary) > 10
        assert len(entry.source) > 5
        assert entry.compute.__doc__
