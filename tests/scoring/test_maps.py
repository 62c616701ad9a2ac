"""Maps and what is made of them, against brute force and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_scores import ALL, FITTED, MODELS, NET, batch, brains, lesion

from twinvae.errors import ConfigError
from twinvae.models import build_model
from twinvae.scoring import MAPS, SCORES, Models, deciding_map, select_maps, select_scores
from twinvae.scoring.elbo import negative_elbo
from twinvae.scoring.image import structural_similarity
from twinvae.scoring.registry import abnormality_map

ABLE = sorted(name for name, entry in MAPS.items() if entry.applies(MODELS))


@pytest.mark.parametrize("name", ABLE)
def test_map_is_finite_deterministic_and_of_each_slice_alone(name: str) -> None:
    x, brain = brains(3)
    together, twice, one = (
        batch(x[rows], brain[rows], fitted=FITTED) for rows in (slice(3), slice(3), slice(1, 2))
    )
    one.position = together.position[1:2]
    with torch.no_grad():
        whole, again, alone = (MAPS[name].of(each) for each in (together, twice, one))
    assert whole.shape == x.shape
    assert whole.dtype == torch.float32
    assert whole.isfinite().all()
    assert torch.equal(whole, again)
    scale = float(whole.abs().max())
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ABLE)
def test_map_says_what_it_is(name: str) -> None:
    assert len(MAPS[name].summary) > 4
    assert len(MAPS[name].source) > 5
    assert MAPS[name].compute.__doc__


def test_scores_follow_from_every_map_under_names_that_say_so() -> None:
    assert {"image_l1", "image_l1_local"} <= set(SCORES)
    assert "image_nll_local" not in SCORES
    with pytest.raises(ValueError, match="registered twice"):
        abnormality_map("image_l1", "again", "nobody")(lambda b: b.x)


def test_map_is_computed_once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    x, brain = brains(2)
    calls = []
    original = MODELS.mixed.encode
    together = batch(x, brain)
    monkeypatch.setattr(MODELS.mixed, "encode", lambda z: calls.append(1) or original(z))
    with torch.no_grad():
        for _ in range(2):
            SCORES["latent_gradient"].compute(together)
            MAPS["latent_gradient"].of(together)
    assert len(calls) == 2  # of x_h, and of x with gradients


@pytest.mark.parametrize("name", ["gradient_kl", "latent_gradient", "gradient_elbo"])
def test_gradient_maps_are_finite_differences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(*(build_model(NET, seed).double().eval() for seed in (0, 1)))
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # where models insist on it
    x, brain = (t.double() if t.is_floating_point() else t for t in brains(1))
    x = x.clamp(0.05, 0.95)  # away from the clip, where the likelihood has a kink
    x_h = models.healthy.reconstruct(x).detach()
    target = models.mixed.encode(x_h).mean.detach()

    def energy(z: torch.Tensor) -> float:
        with torch.no_grad():
            if name == "gradient_kl":
                return models.healthy.encode(z).kl_to_prior().item()
            if name == "gradient_elbo":
                return negative_elbo(models.healthy, z).item()
            return (models.mixed.encode(z).mean - target).norm().item()

    with torch.no_grad():
        found = MAPS[name].of(batch(x, brain, models))
    step = 1e-4
    for row, column in ((10, 12), (16, 20), (3, 3)):
        up, down = x.clone(), x.clone()
        up[0, 0, row, column] += step
        down[0, 0, row, column] -= step
        slope = abs(energy(up) - energy(down)) / (2 * step)
        assert found[0, 0, row, column].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_gradients_leave_the_models_as_they_were() -> None:
    x, brain = brains(2)
    with torch.no_grad():
        MAPS["gradient_elbo"].of(batch(x, brain))
        assert not torch.is_grad_enabled()
    assert all(p.grad is None and p.requires_grad for p in MODELS.healthy.parameters())


def test_gradients_work_under_inference_mode_too() -> None:
    x, brain = brains(2)
    with torch.no_grad():
        expected = MAPS["latent_gradient"].of(batch(x, brain))
    with torch.inference_mode():
        assert torch.equal(MAPS["latent_gradient"].of(batch(x + 0, brain)), expected)


def test_similarity_is_the_papers_formula_by_brute_force() -> None:
    x, _ = brains(2)
    a, b = x[0, 0].double().numpy(), x[1, 0].double().numpy()

    def mean(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 1.5, mode="mirror", truncate=4)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    top, bottom = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4), (ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)
    ours = structural_similarity(x[:1].double(), x[1:].double())[0, 0].numpy()
    np.testing.assert_allclose(ours, top / bottom, atol=2e-3)
    torch.testing.assert_close(structural_similarity(x, x), torch.ones_like(x))


def test_brain_mean_by_brute_force() -> None:
    x, brain = brains()
    image = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    together = batch(x, brain)
    found = together.brain_mean(image)
    with torch.no_grad():
        residual = SCORES["image_l1_brain"].compute(together)
    for i in range(5):
        inside = image[i, 0].numpy()[brain[i, 0].numpy()]
        assert found[i].item() == pytest.approx(inside.mean(), rel=1e-5)
        left = (together.x - together.x_h)[i, 0].abs().numpy()[brain[i, 0].numpy()]
        assert residual[i].item() == pytest.approx(left.mean(), rel=1e-5)


def test_maps_point_at_the_lesion() -> None:
    clean, brain = brains(4)
    sick = lesion(clean)
    together = batch(sick, brain)
    together.x_h = clean  # what a perfect healthy model would give
    place = (sick - clean).abs() > 0.3
    with torch.no_grad():
        for name in ("image_l1", "residual", "image_ssim", "latent_occlusion"):
            found = MAPS[name].of(together)
            for i in range(4):
                inside, outside = place[i], brain[i] & ~place[i]
                assert found[i][inside].mean() > 2 * found[i][outside].mean(), name


def test_patterns_and_groups_choose_scores_and_maps() -> None:
    chosen = [s.name for s in select_scores(["latent"], MODELS)]
    assert chosen[0].startswith("latent_")
    assert {"latent_l2", "latent_kl", "latent_mahalanobis"} < set(chosen)
    assert not any(n.startswith("image_") for n in chosen)
    everything = [s.name for s in select_scores(["all"], MODELS)]
    assert sorted(everything) == ALL
    assert everything[-1].startswith("trivial_")
    layers = [s.name for s in select_scores(["features_l2_?"], MODELS)]
    assert layers[:2] == ["features_l2_1", "features_l2_2"]
    assert "features_l2_3" not in layers
    with pytest.raises(ConfigError, match=r"these models can give, found features_l2_3"):
        select_scores(["features_l2_3"], MODELS)
    with pytest.raises(ConfigError, match=r"found nothing_\*"):
        select_scores(["nothing_*"], MODELS)
    assert [m.name for m in select_maps(["image_l1", "residual_n*", "residual", "image_l1"])] == [
        "image_l1", "residual_negative", "residual"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"maps: expected names among .*image_l1.*found nosuch"):
        select_maps(["nosuch"])


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("_local")])
def test_a_deciding_map_has_its_score_as_its_maximum_over_the_brain(name: str) -> None:
    x, brain = brains(3)
    together = batch(x, brain, fitted=FITTED)
    found = deciding_map(f"{name}_context")
    with torch.no_grad():
        highest = found.of(together).masked_fill(~brain, -torch.inf).flatten(1).amax(1)
        torch.testing.assert_close(highest, SCORES[name].compute(together))


def test_a_distance_between_encodings_has_no_deciding_map() -> None:
    assert deciding_map("latent_l2") is None
