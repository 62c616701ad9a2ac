"""What is particular to each kind of model, against independent calculations."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.distributions import Laplace, Normal
from torch.nn import functional

from models.test_contract import loss_of, model_of, slices
from twinvae.errors import ConfigError
from twinvae.models import TrainingBatch, all_models, build_model, model_lines
from twinvae.models.vae import gaussian_log_density, laplace_log_density
from twinvae.models.vae_variants import with_condition


def test_gaussian_and_laplace_are_those_of_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    x, mean, variance = torch.rand(3, 50, generator=generator, dtype=torch.float64)
    variance = variance + 0.01
    normal, laplace = Normal(mean, variance.sqrt()), Laplace(mean, (variance / 2).sqrt())
    torch.testing.assert_close(gaussian_log_density(x, mean, variance), normal.log_prob(x))
    torch.testing.assert_close(laplace_log_density(x, mean, variance), laplace.log_prob(x))
    torch.testing.assert_close(laplace.variance, variance)


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_likelihood_is_centred_on_the_reconstruction(likelihood: str) -> None:
    model, x = model_of("vae", likelihood=likelihood), slices(3)
    z = model.encode(x).mean
    best, other = model.reconstruct(x), (model.reconstruct(x) + 0.1).clamp(0, 1)
    assert (model.log_likelihood(best, z[None]) > model.log_likelihood(other, z[None])).all()


def test_a_code_is_compared_by_its_l2_distance() -> None:
    model = model_of("dense_ae")
    first, second = model.encode(slices(2, 0)), model.encode(slices(2, 1))
    kl = torch.distributions.kl_divergence(
        Normal(first.mean, first.variance.sqrt()), Normal(second.mean, second.variance.sqrt())
    ).sum(1)
    torch.testing.assert_close(kl, 0.5 * (first.mean - second.mean).square().sum(1))


@pytest.mark.parametrize("kind", ["spatial_vae", "spatial_ae"])
def test_spatial_latent_variables_have_a_place(kind: str) -> None:
    model = model_of(kind).eval()
    x = torch.zeros(1, 1, 16, 16)
    changed = x.clone()
    changed[..., :3, :3] = 1.0
    difference = (model.encode(changed).mean - model.encode(x).mean).reshape(1, 4, 4)
    assert difference[0, 0, 0] != 0
    assert (difference[0, 2:, 2:] == 0).all()
    with pytest.raises(ConfigError, match=r"latent_size: expected a multiple of 16 .* found 6"):
        model_of(kind, latent_size=6)


def test_context_encoding_fills_in_squares() -> None:
    options = {"patches": 2, "smallest_patch": 0.25, "largest_patch": 0.25}
    model, x = model_of("context_vae", options=options), torch.ones(3000, 1, 16, 16)
    removed = 1 - model.cut(x, torch.Generator().manual_seed(0))
    assert set(removed.unique().tolist()) == {0.0, 1.0}
    counts = removed.flatten(1).sum(1)
    assert counts.min() >= 16
    assert counts.max() == 32
    assert removed.mean(0).min() > 0  # any place may be hidden
    plain = model_of("vae")
    plain.load_state_dict(model.state_dict())
    none = model_of("context_vae", options={"context_weight": 0.0})
    none.load_state_dict(model.state_dict())
    torch.testing.assert_close(loss_of(none, x[:4]).objective, loss_of(plain, x[:4]).objective)
    with pytest.raises(ConfigError, match=r"smallest_patch must not exceed largest_patch 0\.1"):
        model_of("context_vae", options={"largest_patch": 0.1})


def test_coarse_noise_is_coarse_and_stays_in_the_brain() -> None:
    model = model_of("denoising_ae", options={"noise_cells": 4, "noise_std": 0.3})
    noise = model.coarse_noise(torch.zeros(2000, 1, 16, 16), torch.Generator().manual_seed(0))
    near = (noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean()
    far = (noise[..., 8:] * noise[..., :8]).mean() / noise.square().mean()
    assert near > 0.85
    assert abs(far) < 0.05
    assert 0.1 < noise.std() < 0.3
    seen = []
    model.denoise = lambda x: seen.append(x) or (x, torch.ones(()))
    x = slices() * (slices() > 0.5)
    model.loss(TrainingBatch(x, x), generator=torch.Generator().manual_seed(1))
    assert torch.equal(seen[0][x == 0], x[x == 0])
    assert not torch.equal(seen[0], x)


def test_adversary_and_model_pull_apart() -> None:
    model, x = model_of("adversarial_ae"), slices()
    code = model.encode(x).mean
    prior = torch.randn(code.shape, generator=torch.Generator().manual_seed(5))
    judged = [model.adversary(z).squeeze(1) for z in (prior, code)]
    expected = functional.binary_cross_entropy_with_logits(
        torch.cat(judged), torch.tensor([1.0] * 6 + [0.0] * 6)
    )
    found = model.adversary_loss(x, torch.Generator().manual_seed(5))
    torch.testing.assert_close(found, 2 * expected)
    loss = loss_of(model, x, kl_weight=0.5)
    fooling = -16 * torch.sigmoid(judged[1]).log().mean()
    torch.testing.assert_close(loss.kl, fooling)
    torch.testing.assert_close(loss.objective, 0.5 * fooling - loss.log_likelihood)


def test_constraint_is_the_distance_between_codes() -> None:
    model, x = model_of("constrained_adversarial_ae", options={"consistency_weight": 3.0}), slices()
    code, again = model.encode(x).mean, model.encode(model.reconstruct(x)).mean
    loss = loss_of(model, x)
    constraint = loss.objective - loss.kl + loss.log_likelihood
    expected = 3 * (code - again).square().sum(1).mean()
    torch.testing.assert_close(constraint, expected, rtol=1e-3, atol=1e-3)


def test_conditional_model_has_two_views_of_the_same_weights() -> None:
    model, x = model_of("conditional_vae").eval(), slices(3)
    healthy, mixed = model.for_role("healthy"), model.for_role("mixed")
    assert torch.equal(healthy.encode(x).mean, mixed.encode(x).mean)
    assert not torch.equal(healthy.reconstruct(x), mixed.reconstruct(x))
    assert healthy.expand.weight is mixed.expand.weight
    z = model.encode(x).mean
    for view, number in ((healthy, 0), (mixed, 1)):
        told = model.decode(with_condition(z, torch.full((3,), number)))[0]
        assert torch.equal(view.reconstruct(x), torch.sigmoid(told))
    with pytest.raises(ValueError, match="condition: expected a number of ROLES"):
        model.loss(TrainingBatch(x, x))


@pytest.mark.parametrize("likelihood", ["logit_normal", "gaussian"])
@pytest.mark.parametrize("penalty", ["tv", "l1"])
def test_restoration_climbs_and_its_penalty_holds_it_back(likelihood: str, penalty: str) -> None:
    options = {"steps": 40, "penalty": penalty, "penalty_weight": 0.5}
    model = model_of("restoration_vae", likelihood=likelihood, options=options).eval()
    x = slices(3)
    restored = model.reconstruct(x)
    gained = model.restoration_objective(restored, x) - model.restoration_objective(x, x)
    assert (gained > 0).all()
    held = model_of(
        "restoration_vae", likelihood=likelihood, options=options | {"penalty_weight": 1e6}
    )
    assert (held.reconstruct(x) - x).abs().mean() < 0.7 * (restored - x).abs().mean()


def test_total_variation_is_that_of_a_square() -> None:
    model, square = model_of("restoration_vae"), torch.zeros(1, 1, 16, 16)
    square[..., 4:7, 4:9] = 0.5
    assert model._penalty(square).item() == pytest.approx(0.5 * 2 * (3 + 5))
    edge = torch.zeros(1, 1, 16, 16)
    edge[..., 0, :] = 1.0
    assert model._penalty(edge).item() == pytest.approx(16 + 16 + 2)


def test_residual_vae_has_latent_variables_at_every_scale() -> None:
    x = slices(2)
    sizes = {scales: model_of("residual_vae", options={"scale_channels": scales})
             .encode(x).mean.shape[1] for scales in ((), (1,), (3,))}  # fmt: skip
    assert sizes == {(): 16, (1,): 16 + 64, (3,): 16 + 192}
    with pytest.raises(ConfigError, match="scale_channels: expected fewer than 2"):
        model_of("residual_vae", options={"scale_channels": (1, 1)})


_PLUGIN = '''
from twinvae.models import VAE

class Flipped(VAE):
    """A VAE that looks in the mirror."""
    source = "a test"
    def reconstruct(self, x):
        return super().reconstruct(x.flip(-1)).flip(-1)

nothing = 3
'''


def _installed(folder: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    info = folder / "mirror-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mirror\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[twinvae.models]\nflipped_vae = {value}\n")
    (folder / "mirror_models.py").write_text(_PLUGIN)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "mirror_models", raising=False)


def test_another_package_adds_a_model_by_an_entry_point(tmp_path, monkeypatch) -> None:
    _installed(tmp_path, monkeypatch, "mirror_models:Flipped")
    assert list(all_models())[-1] == "flipped_vae"
    model = model_of("flipped_vae")
    mirrored = model_of("vae").reconstruct(slices().flip(-1)).flip(-1)
    assert torch.equal(model.reconstruct(slices()), mirrored)
    assert next(model_lines("flipped_vae")) == "flipped_vae: A VAE that looks in the mirror."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mirror_models:nothing", "model flipped_vae: expected a subclass of Model, found 3"),
        ("mirror_models:Absent", "model flipped_vae: expected mirror_models:Absent, found"),
    ],
)
def test_a_broken_entry_point_is_named(tmp_path, monkeypatch, value, message) -> None:
    _installed(tmp_path, monkeypatch, value)
    with pytest.raises(ConfigError, match=message):
        build_model(model_of("vae").config.model_copy(update={"kind": "flipped_vae"}), 0)


def test_words_tell_what_a_model_offers() -> None:
    lines = {kind: "\n".join(model_lines(kind)) for kind in all_models()}
    assert "options.penalty_weight: float, default 5.0" in lines["restoration_vae"]
    assert "options: none of its own" in lines["vae"]
    assert "encoding: none" in lines["denoising_ae"]
    assert "encoding: a code, given as N(code, I)" in lines["dense_ae"]
    assert "training: one for both roles" in lines["conditional_vae"]
