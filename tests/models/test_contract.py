"""Every registered model keeps one contract, those that other packages offer included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from twinvae.config import ModelConfig
from twinvae.errors import ConfigError
from twinvae.models import (
    Loss,
    Model,
    TrainingBatch,
    all_models,
    build_model,
    layer_table,
    load_model,
    save_model,
)

KINDS = sorted(all_models())
BF16_TOLERANCE = 0.05  # of intensities in [0, 1]; bf16 keeps 8 bits of each product
CUDA_TOLERANCE = 1e-4


def model_of(kind: str, seed: int = 0, **changes: Any) -> Model:
    values = {
        "kind": kind, "image_size": 16, "encoder_channels": (4, 8), "decoder_channels": (4,),
        "latent_size": 16, "variance": "scalar",
    }  # fmt: skip
    return build_model(ModelConfig.model_validate(values | changes), seed)


def slices(n: int = 6, seed: int = 0) -> Tensor:
    """Bright discs on a dark ground, (n, 1, 16, 16) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    centre, radius = (torch.rand(k, n, 1, 1, generator=generator) for k in (2, 1))
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    distance = (y - 5 - 5 * centre[0]) ** 2 + (x - 5 - 5 * centre[1]) ** 2
    return ((distance < (3 + 3 * radius[0]) ** 2) * 0.7 + 0.1).unsqueeze(1)


def loss_of(
    model: Model, x: Tensor, seed: int = 1, *, mask: Tensor | None = None, **options: Any
) -> Loss:
    condition = torch.arange(len(x)) % 2 if model.conditional else None
    generator = torch.Generator().manual_seed(seed)
    return model.loss(TrainingBatch(x, x, mask, condition), generator=generator, **options)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("likelihood", ["logit_normal", "gaussian", "laplace"])
@pytest.mark.parametrize("variance", ["scalar", "per_pixel"])
def test_shapes_and_ranges(kind: str, likelihood: str, variance: str) -> None:
    model = model_of(kind, likelihood=likelihood, variance=variance).eval()
    x = slices(3)
    reconstruction = model.reconstruct(x)
    assert reconstruction.shape == x.shape
    assert reconstruction.dtype == torch.float32
    assert not reconstruction.requires_grad or not torch.is_inference_mode_enabled()
    assert reconstruction.min() >= 0
    assert reconstruction.max() <= 1
    assert reconstruction.std() > 0
    features = model.features(x)
    assert len(features) == 2
    assert all(f.ndim == 4 and len(f) == 3 for f in features)
    for term in loss_of(model, x):
        assert term.shape == ()
        assert term.isfinite()


def test_encoding_is_a_posterior_or_clearly_refused(kind: str) -> None:
    model, x = model_of(kind).eval(), slices(3)
    if not model.has_encoding:
        with pytest.raises(ConfigError, match=f"kind {kind}: has no encoding"):
            model.encode(x)
        with pytest.raises(ConfigError, match=f"kind {kind}: has no encoding"):
            model.log_likelihood(x, torch.zeros(1, 3, 16))
        return
    q = model.encode(x)
    assert q.mean.shape == q.variance.shape
    assert q.mean.ndim == 2
    assert q.mean.dtype == q.variance.dtype == torch.float32
    assert (q.variance > 0).all()
    assert model.variational or (q.variance == 1).all()
    assert not torch.equal(q.mean[0], q.mean[1])
    assert model.log_density(x, q.mean[None]).shape == (1, 3, 1, 16, 16)
    assert model.log_likelihood(x, q.mean[None]).shape == (1, 3)


@pytest.mark.parametrize("variance", ["scalar", "per_pixel"])
def test_gradients_reach_every_parameter(kind: str, variance: str) -> None:
    model, x = model_of(kind, variance=variance, activation="leaky_relu"), slices()
    adversary = {id(p) for p in model.adversary_parameters()}
    loss_of(model, x, samples=2).objective.backward()
    missing = [n for n, p in model.named_parameters() if id(p) not in adversary and not _moved(p)]
    assert not missing
    if adversary:
        model.zero_grad()
        model.adversary_loss(x, torch.Generator().manual_seed(0)).backward()
        moved = {id(p) for p in model.parameters() if _moved(p)}
        assert moved == adversary


def _moved(parameter: torch.nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)


def test_loss_falls_on_a_toy_set(kind: str) -> None:
    model, x = model_of(kind), slices(16)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    before = loss_of(model, x).log_likelihood.item()
    for step in range(30):
        optimiser.zero_grad()
        loss_of(model, x, seed=step).objective.backward()
        optimiser.step()
    assert loss_of(model, x).log_likelihood.item() > before + 20


def test_saved_model_gives_the_same_numbers(kind: str, tmp_path) -> None:
    model, x = model_of(kind, variance="per_pixel").eval(), slices(3)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert torch.equal(again.reconstruct(x), model.reconstruct(x))
    if model.has_encoding:
        assert torch.equal(again.encode(x).mean, model.encode(x).mean)


def test_bf16_agrees_with_fp32(kind: str) -> None:
    model, x = model_of(kind).eval(), slices(4)
    with torch.inference_mode():
        full = model.reconstruct(x)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.reconstruct(x)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=BF16_TOLERANCE, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_the_cpu(kind: str) -> None:
    model, x = model_of(kind).eval(), slices(4)
    with torch.inference_mode():
        here = model.reconstruct(x)
        there = model.cuda().reconstruct(x.cuda()).cpu()
    torch.testing.assert_close(there, here, atol=CUDA_TOLERANCE, rtol=0)


def test_reconstruction_is_deterministic_and_works_without_gradients(kind: str) -> None:
    model, x = model_of(kind).eval(), slices(3)
    state = torch.random.get_rng_state()
    first = model.reconstruct(x)
    with torch.inference_mode():
        second = model.reconstruct(x.clone())
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_loss_draws_from_its_generator_alone(kind: str) -> None:
    model, x = model_of(kind), slices()
    state = torch.random.get_rng_state()
    first, second = loss_of(model, x), loss_of(model, x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_same_seed_same_weights(kind: str) -> None:
    first, second, other = (model_of(kind, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_slices_do_not_see_each_other(kind: str) -> None:
    model, x = model_of(kind).eval(), slices(5)
    with torch.inference_mode():
        together = model.reconstruct(x)
        alone = torch.cat([model.reconstruct(x[i : i + 1]) for i in range(5)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
        if model.has_encoding:
            means = torch.cat([model.encode(x[i : i + 1]).mean for i in range(5)])
            torch.testing.assert_close(model.encode(x).mean, means, atol=1e-5, rtol=1e-4)


def test_pixels_outside_the_mask_do_not_count(kind: str) -> None:
    model, x = model_of(kind), slices()
    mask = torch.zeros_like(x, dtype=torch.bool)
    nothing = loss_of(model, x, mask=mask)
    assert nothing.log_likelihood == 0
    half = mask.clone()
    half[..., :8] = True
    assert 0 != loss_of(model, x, mask=half).log_likelihood != loss_of(model, x).log_likelihood


@pytest.mark.parametrize("size", [32, 64])
def test_other_sizes_and_depths(kind: str, size: int) -> None:
    channels = {"encoder_channels": (4, 4, 4), "decoder_channels": (4, 4), "latent_size": 64}
    model = model_of(kind, image_size=size, **channels).eval()
    with torch.inference_mode():
        assert model.reconstruct(torch.rand(1, 1, size, size)).shape == (1, 1, size, size)


def test_unknown_option_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"options of kind {kind}.*\n.*typo"):
        model_of(kind, options={"typo": 1})


def test_layers_and_words(kind: str) -> None:
    model = model_of(kind)
    rows = layer_table(model)
    assert sum(count for *_, count in rows) == sum(p.numel() for p in model.parameters())
    assert type(model).__doc__.splitlines()[0].endswith(".")
    assert model.source
    assert all(field.description for field in model.Options.model_fields.values())
