"""What single methods of models do, against the formulas of their docstrings."""

from __future__ import annotations

import inspect

import pytest
import torch
from test_contract import model_of, slices

from twinvae.config import ModelConfig
from twinvae.errors import ConfigError
from twinvae.models import MODELS, LatentModel, Model, TrainingBatch, build_model
from twinvae.models.unets import HealingOptions
from twinvae.models.vae import log_density

PUBLISHED = {
    "residual_vae": {"blocks": 1, "scale_channels": (1,)},
    "context_vae": {
        "context_weight": 0.5, "patches": 3, "smallest_patch": 0.125, "largest_patch": 0.375,
    },
    "restoration_vae": {
        "steps": 50, "step_size": 0.02, "penalty": "tv", "penalty_weight": 5.0,
    },
    "conditional_vae_labelled": {"labelled_patients": 10},
    "adversarial_ae": {"adversary_width": 256, "adversarial_weight": 1.0},
    "constrained_adversarial_ae": {
        "adversary_width": 256, "adversarial_weight": 1.0, "consistency_weight": 1.0,
    },
    "denoising_ae": {"noise_std": 0.2, "noise_cells": 16},
    "healing_unet": {
        "contrast": "any", "planted": 0.8, "diameter_mm": (8.0, 60.0), "strength": (0.15, 1.5),
        "push": 0.0, "mirror": True, "field_of_view_mm": 200.0,
    },
    "slab_unet": {
        "contrast": "any", "planted": 0.6, "diameter_mm": (14.0, 85.0), "strength": (0.3, 1.5),
        "push": 0.3, "infiltrating": 0.5, "field_of_view_mm": 200.0, "neighbour_mm": 4.2,
    },
}  # fmt: skip
"""Settings that a config leaves out, as the docs and finished runs have them."""
OUTSIDE = {
    "residual_vae": [{"blocks": 0}],
    "context_vae": [
        {"context_weight": -0.1}, {"context_weight": 1.0}, {"patches": 0}, {"smallest_patch": 0},
        {"largest_patch": 1.01}, {"smallest_patch": 0.5, "largest_patch": 0.4},
    ],
    "restoration_vae": [
        {"steps": 0}, {"step_size": 0}, {"penalty": "l2"}, {"penalty_weight": -0.1},
    ],
    "conditional_vae_labelled": [{"labelled_patients": 0}],
    "adversarial_ae": [{"adversary_width": 0}, {"adversarial_weight": -0.1}],
    "constrained_adversarial_ae": [{"consistency_weight": -0.1}],
    "denoising_ae": [{"noise_std": 0}, {"noise_cells": 0}],
    "healing_unet": [
        {"planted": 0}, {"planted": 1.01}, {"push": -0.1}, {"push": 0.41}, {"field_of_view_mm": 0},
    ],
    "slab_unet": [
        {"planted": 0}, {"push": 0.41}, {"infiltrating": 1.1}, {"neighbour_mm": 0},
    ],
}  # fmt: skip
AT_THE_EDGE = {
    "context_vae": {"context_weight": 0.0, "patches": 1, "smallest_patch": 1, "largest_patch": 1},
    "restoration_vae": {"steps": 1, "penalty_weight": 0.0},
    "conditional_vae_labelled": {"labelled_patients": 1},
    "adversarial_ae": {"adversary_width": 1, "adversarial_weight": 0.0},
    "constrained_adversarial_ae": {"consistency_weight": 0.0},
    "denoising_ae": {"noise_cells": 1},
    "healing_unet": {"planted": 1.0, "push": 0.4},
    "residual_vae": {"blocks": 1},
}


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_options_have_their_published_defaults_and_bounds(kind: str) -> None:
    options = MODELS[kind].Options
    assert options().model_dump() == PUBLISHED.get(kind, {})
    for given in OUTSIDE.get(kind, []):
        with pytest.raises(ConfigError):
            model_of(kind, options=given)
    model_of(kind, options=AT_THE_EDGE.get(kind, {}))


def test_what_a_kind_must_define() -> None:
    assert Model.__abstractmethods__ == {"features", "reconstruct", "loss"}
    assert LatentModel.__abstractmethods__ == {"features", "decode"}
    assert (Model.conditional, Model.variational, Model.has_encoding) == (False, False, True)
    given = {kind: (m.conditional, m.variational, m.has_encoding) for kind, m in MODELS.items()}
    assert {kind for kind, (told, _, _) in given.items() if told} == {
        "conditional_vae", "conditional_vae_labelled",
    }  # fmt: skip
    assert {kind for kind, (_, learned, _) in given.items() if learned} == {
        kind for kind in MODELS if kind.endswith(("vae", "vae_labelled"))
    }
    assert {kind for kind, (_, _, encodes) in given.items() if not encodes} == {
        "denoising_ae", "healing_unet", "slab_unet",
    }  # fmt: skip
    assert {kind for kind, m in MODELS.items() if m.slab or m.finds_lesions} == {"slab_unet"}
    assert {kind for kind, m in MODELS.items() if getattr(m, "spatial", False)} == {
        "spatial_vae", "spatial_ae",
    }  # fmt: skip
    assert all(inspect.isclass(m.Options) for m in MODELS.values())


def test_one_step_of_restoration() -> None:
    options = {"steps": 1, "step_size": 0.03, "penalty_weight": 2.0}
    model, x = model_of("restoration_vae", options=options).eval(), slices(3) * 0.95 + 0.02
    at = x.clone().requires_grad_()
    (uphill,) = torch.autograd.grad(model.restoration_objective(at, x).sum(), at)
    rms = uphill.square().mean((1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(model.reconstruct(x), (x + 0.03 * uphill / rms).clamp(0, 1))


def test_steps_of_restoration_shrink_to_nothing() -> None:
    two = model_of("restoration_vae", options={"steps": 2, "step_size": 0.03}).eval()
    one = model_of("restoration_vae", options={"steps": 1, "step_size": 0.03}).eval()
    half = model_of("restoration_vae", options={"steps": 1, "step_size": 0.015}).eval()
    x = slices(2) * 0.9 + 0.05
    first = one.reconstruct(x)
    uphill = half._gradient(first, x)
    rms = uphill.square().mean((1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(two.reconstruct(x), (first + 0.015 * uphill / rms).clamp(0, 1))


@pytest.mark.parametrize("likelihood", ["logit_normal", "laplace"])
@pytest.mark.parametrize("penalty", ["tv", "l1"])
def test_objective_of_restoration(likelihood: str, penalty: str) -> None:
    options = {"penalty": penalty, "penalty_weight": 3.0}
    model = model_of("restoration_vae", likelihood=likelihood, options=options).eval()
    given, restored = slices(3), slices(3, seed=5)
    q = model.encode(restored)
    mean, variance = model.decode(q.mean)
    density = log_density(restored, mean, variance, model.config)
    if likelihood == "logit_normal":  # of logit r: without the Jacobian −log r − log(1 − r)
        density = density + (restored * (1 - restored)).log()
    away = restored - given
    padded = torch.nn.functional.pad(away, (1, 1, 1, 1))
    size = away.abs().sum((1, 2, 3))
    if penalty == "tv":
        across = (padded[..., 1:] - padded[..., :-1]).abs().sum((1, 2, 3))
        size = across + (padded[..., 1:, :] - padded[..., :-1, :]).abs().sum((1, 2, 3))
    expected = density.sum((1, 2, 3)) - q.kl_to_prior() - 3 * size
    torch.testing.assert_close(model.restoration_objective(restored, given), expected)


def test_sides_of_context_encodings_squares() -> None:
    options = {"patches": 1, "smallest_patch": 0.25, "largest_patch": 0.75}
    model, x = model_of("context_vae", options=options), torch.ones(4000, 1, 32, 32)
    removed = 1 - model.cut(x, torch.Generator().manual_seed(0))
    tall, wide = removed.amax(3).sum(2)[:, 0], removed.amax(2).sum(2)[:, 0]
    assert (removed.sum((1, 2, 3)) == tall * wide).all()  # a full rectangle
    assert ((tall - wide).abs() <= 1).all()
    assert tall.min() >= 7
    assert tall.max() <= 25
    assert tall.mean().item() == pytest.approx(16, abs=0.4)
    assert tall.std().item() == pytest.approx(16 / 12**0.5, abs=0.4)
    corners = removed[..., 0, 0], removed[..., 0, -1], removed[..., -1, 0], removed[..., -1, -1]
    assert all(corner.any() for corner in corners)


def test_denoising_sees_the_sum_and_splits_its_channels() -> None:
    model, x = model_of("denoising_ae", variance="per_pixel"), slices()
    both = torch.cat([x, 2 * x], dim=1)
    model.image = torch.nn.Identity()
    model.last = lambda _: both
    mean, variance = model.denoise(x)
    assert torch.equal(mean, x)
    expected = torch.log1p((2 * x).exp()).square() + model.config.min_variance
    torch.testing.assert_close(variance, expected)

    model = model_of("denoising_ae")
    noise = model.coarse_noise(x, torch.Generator().manual_seed(1)) * (x > 0.5)
    seen = []
    model.denoise = lambda given: seen.append(given) or (given, torch.ones(()))
    dark = x * (x > 0.5)
    model.loss(TrainingBatch(dark, dark), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(seen[0], dark + noise)


def healing(**changes: object) -> Model:
    values = {
        "kind": "healing_unet", "image_size": 16, "encoder_channels": (4, 8),
        "decoder_channels": (4,), "options": {"planted": 1.0}, **changes,
    }  # fmt: skip
    return build_model(ModelConfig.model_validate(values), 0)


def test_healing_adds_its_correction_inside_the_brain() -> None:
    model, x = healing(), slices() * (slices() > 0.5) + 0.3 * (slices() > 0.5)
    model.correction = torch.nn.Identity()
    model.last = lambda given: 0.5 * given - 0.2
    torch.testing.assert_close(model.heal(x), torch.where(x > 0, 1.5 * x - 0.2, x))
    torch.testing.assert_close(
        model.reconstruct(x), torch.where(x > 0, 1.5 * x - 0.2, x).clamp(0, 1)
    )


def test_objective_of_healing() -> None:
    model, target = healing(), slices() * (slices() > 0.5)
    brain, seen = target > 0, []
    plain = model.heal
    model.heal = lambda given: seen.append(given) or plain(given)
    found = model.loss(TrainingBatch(target, target), generator=torch.Generator().manual_seed(3))
    ill = model.with_lesions(target, brain, torch.Generator().manual_seed(3))
    assert torch.equal(seen[0], ill)
    density = torch.distributions.Normal(plain(ill), model.log_scale.exp()).log_prob(target)
    expected = (density * brain).sum((1, 2, 3)).mean()
    torch.testing.assert_close(found.log_likelihood, expected)
    torch.testing.assert_close(found.objective, -expected)
    assert found.kl == 0
    assert model.log_scale.exp().item() == pytest.approx(0.05)


def test_lesions_are_of_the_diameters_and_strengths_asked_for() -> None:
    options = HealingOptions(diameter_mm=(20, 30), strength=(0.4, 0.5), push=0.1, contrast="T2w")
    planting = healing(options=options.model_dump()).planting
    assert (planting.diameter_mm, planting.strength) == ((20, 30), (0.4, 0.5))
    assert (planting.push, planting.contrast) == (0.1, "T2w")
