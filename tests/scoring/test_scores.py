"""One contract for every score, and each against an independent calculation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from twinvae.config import ModelConfig, ScoringConfig
from twinvae.errors import ConfigError
from twinvae.models import DiagonalGaussian, TrainingBatch, build_model, mirror
from twinvae.scoring import SCORES, Models, SliceBatch, select_scores
from twinvae.scoring.batch import Fitted, erode, gaussian_smooth
from twinvae.scoring.registry import Reference, score

SIDE = 32
NET = ModelConfig(
    image_size=SIDE,
    encoder_channels=(4, 8),
    decoder_channels=(4,),
    latent_size=6,
    variance="scalar",
)
MODELS = Models(build_model(NET, 0).eval(), build_model(NET, 1).eval())
ALL = sorted(name for name, entry in SCORES.items() if entry.applies(MODELS))
RIVALS_OF_PLACE = ("trivial_position", "trivial_brain_area")  # see where, not what
# These look at one model and one image: nothing is compared, so nothing is zero at x_h = x.
OF_ONE_MODEL = ("healthy_", "image_nll", "gradient_elbo", "gradient_kl", "trivial_")
# These are zero elsewhere: where x_h is VAE's own reconstruction, the healthy mean difference, or
# where x is the mean of healthy slices; a learned probability is zero nowhere.
ZERO_ELSEWHERE = ("symmetric", "mahalanobis", "centred", "expected", "zscore", "learned")
DISTANCES = [
    name
    for name in ALL
    if (not name.startswith(OF_ONE_MODEL) or "kl_residual" in name)
    and not any(part in name for part in ZERO_ELSEWHERE)
]


def brains(n: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric elliptic brains with some texture, about the middle column."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    radius = 11 + 2 * torch.rand(n, 1, 1, 1, generator=g)
    brain = ((x - 15.5) / 0.8) ** 2 + (y - 15.5) ** 2 < radius**2
    texture = 0.3 + 0.05 * torch.rand(n, 1, SIDE, SIDE, generator=g)
    return (texture + texture.flip(-1)) / 2 * brain, brain


OPTIONS = ScoringConfig(local_fwhm_mm=8)


def batch(
    x: torch.Tensor,
    brain: torch.Tensor,
    models: Models = MODELS,
    fitted: Fitted | None = None,
    options: ScoringConfig = OPTIONS,
    aligned: torch.Tensor | None = None,
) -> SliceBatch:
    n = len(x)
    return SliceBatch(
        x,
        brain,
        position=torch.linspace(0.2, 0.9, n),
        brain_mm2=brain.flatten(1).sum(1).float() * 9,
        pixel_mm=torch.full((n,), 3.0),
        models=models,
        options=options,
        fitted=fitted,
        aligned=aligned,
    )


def fitted(models: Models = MODELS) -> dict[str, dict[str, torch.Tensor]]:
    """What every fit that ``models`` allow learns from twenty healthy slices."""
    x, brain = brains(20, seed=9)
    out = {}
    with torch.no_grad():
        for fit in {e.fit for e in SCORES.values() if e.fit and e.applies(models)}:
            seen = batch(x, brain, models)
            if isinstance(fit, Reference):
                learned = fit.learn([seen])
            else:
                learned = fit.learn(fit.observe(seen).double().numpy())
            out[fit.name] = {k: torch.tensor(v, dtype=torch.float32) for k, v in learned.items()}
    return out


def values(
    name: str, x: torch.Tensor, brain: torch.Tensor, models: Models = MODELS
) -> torch.Tensor:
    together = batch(x, brain, models, FITTED)
    with torch.no_grad():
        return SCORES[name].compute(together)


VERDICT_SCORES = ("latent_l2", "image_l2", "healthy_mean_norm", "residual_local")


@pytest.mark.parametrize("name", ALL)
def test_score_is_finite_deterministic_and_one_number_a_slice(name: str) -> None:
    x, brain = brains()
    first, second = values(name, x, brain), values(name, x, brain)
    assert first.shape == (5,)
    assert first.isfinite().all()
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ALL)
def test_score_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    x, brain = brains()
    whole = values(name, x, brain)
    scale = float(whole.abs().max())
    for rows in ([0], [3], [4, 2, 1]):
        part = batch(x[rows], brain[rows])
        part.position = batch(x, brain).position[rows]
        part.fitted = FITTED
        with torch.no_grad():
            few = SCORES[name].compute(part)
        if name in VERDICT_SCORES or name.startswith("trivial_"):
            torch.testing.assert_close(few, whole[rows], rtol=1e-5, atol=1e-6)
        else:  # long sums and gradients round differently in batches of other sizes
            torch.testing.assert_close(few, whole[rows], rtol=1e-4, atol=1e-5 * scale + 1e-6)


@pytest.mark.parametrize("name", sorted(set(ALL) - set(RIVALS_OF_PLACE)))
def test_score_survives_slices_without_brain(name: str) -> None:
    empty = torch.zeros(2, 1, SIDE, SIDE)
    assert values(name, empty, empty.bool()).isfinite().all()


class _Healthy(torch.nn.Module):
    """A perfect healthy model: it gives the brain back without the lesion."""

    finds_lesions = False

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean
        self.encode = MODELS.healthy.encode

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return self.clean


def lesion(clean: torch.Tensor, level: float = 0.9) -> torch.Tensor:
    sick = clean.clone()
    sick[:, :, 12:17, 8:13] = level
    return sick


@pytest.mark.parametrize(
    "name", [*DISTANCES, "trivial_asymmetry",
             "trivial_smoothed_max", "trivial_p99_intensity", "trivial_hyperintense",
             "trivial_mean_intensity",
             "trivial_zscore", "trivial_zscore_mean"]
)  # fmt: skip
def test_planted_lesion_raises_the_score(name: str) -> None:
    clean, brain = brains()
    level = 0.05 if "negative" in name else 0.9
    models = Models(_Healthy(clean), MODELS.mixed)
    before = values(name, clean, brain, models)
    assert (values(name, lesion(clean, level), brain, models) > before).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_dissimilarity_is_zero_when_the_reconstruction_is_perfect(name: str) -> None:
    clean, brain = brains()
    found = values(name, clean, brain, Models(_Healthy(clean), MODELS.mixed))
    torch.testing.assert_close(found, torch.zeros_like(found))


@pytest.mark.parametrize("name", [n for n in ALL if "symmetric" in n])
def test_symmetric_form_is_zero_when_both_models_see_alike(name: str) -> None:
    x, brain = brains()
    same = Models(MODELS.mixed, MODELS.mixed)
    torch.testing.assert_close(values(name, x, brain, same), torch.zeros(5))
    assert (values(name, x, brain) > 0).all()


class _Faithful(torch.nn.Module):
    """A mixed model that knows lesions: it gives back what it is given."""

    finds_lesions = False

    encode = staticmethod(MODELS.mixed.encode)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("name", [n for n in ALL if "symmetric" in n])
def test_symmetric_form_sees_what_only_the_mixed_model_reconstructs(name: str) -> None:
    clean, brain = brains()
    models = Models(_Healthy(clean), _Faithful())
    torch.testing.assert_close(values(name, clean, brain, models), torch.zeros(5))
    assert (values(name, lesion(clean), brain, models) > 0).all()


@pytest.fixture(scope="module")
def trained() -> Models:
    """A healthy model that knows clean brains a little, a mixed one that knows lesions too."""
    clean, _ = brains(64, seed=4)
    networks = []
    for seed, x in enumerate((clean, torch.cat([clean[:32], lesion(clean[32:])]))):
        model = build_model(NET, seed)
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        noise = torch.Generator().manual_seed(seed)
        for _ in range(200):
            optimiser.zero_grad()
            model.loss(TrainingBatch(x, x), generator=noise).objective.backward()
            optimiser.step()
        networks.append(model.eval())
    return Models(*networks)


ENCODING_ALONE = [n for n in ALL if n.startswith(("healthy_kl", "healthy_mean", "gradient_kl"))]
NEED_TRAINING = sorted(
    n
    for n in set(ALL) - set(DISTANCES) - set(ENCODING_ALONE)
    if not n.startswith("trivial_") and "symmetric" not in n
)


@pytest.mark.parametrize("name", NEED_TRAINING)
def test_trained_models_find_a_planted_lesion(name: str, trained: Models) -> None:
    clean, brain = brains(8, seed=5)
    learned = fitted(trained)
    found = []
    for x in (clean, lesion(clean)):
        part = batch(x, brain, trained)
        part.fitted = learned
        with torch.no_grad():
            found.append(SCORES[name].compute(part))
    assert found[1].mean() > found[0].mean()


class _Centred(torch.nn.Module):
    """Encodes healthy slices at the prior's centre, and others by how they differ."""

    finds_lesions = False

    def __init__(self, clean: torch.Tensor) -> None:
        super().__init__()
        self.clean = clean

    def encode(self, x: torch.Tensor) -> DiagonalGaussian:
        mean = torch.nn.functional.avg_pool2d(x - self.clean, 4).flatten(1)
        return DiagonalGaussian(mean, torch.full_like(mean, 0.5))

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return self.clean


@pytest.mark.parametrize("name", ENCODING_ALONE)
def test_encoding_far_from_the_prior_raises_the_score(name: str) -> None:
    clean, brain = brains()
    models = Models(_Centred(clean), MODELS.mixed)
    before = values(name, clean, brain, models)
    assert (values(name, lesion(clean), brain, models) > before).all()


FITTED = fitted()


def test_paper_scores_are_the_papers_formulas() -> None:
    x, brain = brains()
    with torch.no_grad():
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
    with torch.no_grad():
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


@pytest.mark.parametrize(
    "name", ["residual_local", "residual_mirrored_local", "residual_or_mirror_local",
             "residual_mirror_zscore_local",
             "trivial_smoothed_max"]
)  # fmt: skip
def test_the_rim_counts_in_no_local_score_that_leaves_it_out(name: str) -> None:
    clean, brain = brains()
    inner = erode(brain, 6.0, torch.full((5,), 3.0))
    left = torch.arange(SIDE) < SIDE // 2
    bright = torch.where(brain & ~inner & left, torch.ones_like(clean), clean)
    models = Models(_Healthy(clean), MODELS.mixed)

    def found(x: torch.Tensor, rim_mm: float) -> torch.Tensor:
        together = batch(x, brain, models, FITTED)
        together.options = ScoringConfig(local_fwhm_mm=8, rim_mm=rim_mm)
        with torch.no_grad():
            return SCORES[name].compute(together)

    assert (inner.flatten(1).sum(1) > 0).all()
    assert (found(bright, 0.0) > found(clean, 0.0)).all()
    torch.testing.assert_close(found(bright, 6.0), found(clean, 6.0))
