"""The paper's two networks, to the parameter, and the ELBO against an independent calculation."""

import pytest
import torch
from torch.distributions import Normal, SigmoidTransform, TransformedDistribution, kl_divergence

from twinvae.config import ModelConfig, load_config
from twinvae.errors import ConfigError, DataError
from twinvae.models import VAE, TrainingBatch, build_model, layer_table, load_model, save_model

SMALL = ModelConfig(
    image_size=16, encoder_channels=(4, 8), decoder_channels=(4,), latent_size=6, variance="scalar"
)


def small(**changes: object) -> VAE:
    return build_model(SMALL.model_copy(update=changes), seed=0)


def _conv(inputs: int, outputs: int) -> int:
    return inputs * outputs * 16 + outputs


def test_paper_networks_have_the_papers_layers_and_parameters() -> None:
    networks = load_config("paper").models
    healthy = build_model(networks.healthy, 0)
    flat = 512 * 16
    encoder = _conv(1, 64) + _conv(64, 128) + _conv(128, 256) + _conv(256, 512)
    latent = 2 * (flat * 128 + 128) + (128 * flat + flat)
    decoder = _conv(512, 256) + _conv(256, 128) + _conv(128, 64) + _conv(64, 1)
    assert sum(p.numel() for p in healthy.parameters()) == encoder + latent + decoder + 1

    mixed = build_model(networks.mixed, 0)
    flat = 1024 * 16
    encoder = _conv(1, 16) + _conv(16, 64) + _conv(64, 256) + _conv(256, 1024)
    latent = 2 * (flat * 128 + 128) + (128 * flat + flat)
    decoder = _conv(1024, 256) + _conv(256, 64) + _conv(64, 16) + 2 * _conv(16, 1)
    assert sum(p.numel() for p in mixed.parameters()) == encoder + latent + decoder


def test_layer_table_shows_the_papers_shapes() -> None:
    rows = layer_table(build_model(load_config("paper").models.healthy, 0))
    shapes = [shape for _, what, shape, _ in rows if "conv" in what]
    kinds = [(name, what) for name, what, _, _ in rows if "scalar" not in name]
    assert [what for _, what in kinds] == [
        *["conv 4×4, stride 2"] * 4, "dense", "dense", "dense",
        *["transposed conv 4×4, stride 2"] * 4,
    ]  # fmt: skip
    unet = ModelConfig(
        kind="healing_unet", image_size=16, encoder_channels=(4, 8), decoder_channels=(4,)
    )
    told = {what for _, what, _, _ in layer_table(build_model(unet, 0))}
    assert {"conv 3×3", "conv 1×1", "group norm", "one learned variance"} <= told
    assert shapes == ["64×32×32", "128×16×16", "256×8×8", "512×4×4",
                      "256×8×8", "128×16×16", "64×32×32", "1×64×64"]  # fmt: skip


@pytest.mark.parametrize("variance", ["scalar", "per_pixel"])
def test_elbo_agrees_with_torch_distributions(variance: str) -> None:
    model = small(variance=variance)
    x = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    loss = model.loss(TrainingBatch(x, x), samples=3, generator=torch.Generator().manual_seed(2))

    q = model.encode(x)
    noise = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(2))
    terms = []
    for sample in noise:
        mean, var = model.decode(q.mean + sample * q.variance.sqrt())
        pixels = TransformedDistribution(Normal(mean, var.sqrt()), SigmoidTransform())
        terms.append(pixels.log_prob(x.clamp(0.01, 0.99)).sum((1, 2, 3)))
    log_likelihood = torch.stack(terms).mean()
    kl = kl_divergence(Normal(q.mean, q.variance.sqrt()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(loss.log_likelihood, log_likelihood, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.kl, kl, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.objective, kl - log_likelihood, rtol=1e-5, atol=1e-5)


def test_kl_weight_scales_the_kl_term_only() -> None:
    model, x = small(), torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    none, half = (
        model.loss(TrainingBatch(x, x), kl_weight=w, generator=torch.Generator().manual_seed(1))
        for w in (0, 0.5)
    )
    torch.testing.assert_close(none.objective, -none.log_likelihood)
    torch.testing.assert_close(half.objective - none.objective, 0.5 * half.kl)


def test_mask_restricts_the_likelihood_to_its_pixels() -> None:
    model = small()
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    z = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(2)) < 0.5
    inside, outside = model.log_likelihood(x, z, mask), model.log_likelihood(x, z, ~mask)
    torch.testing.assert_close(inside + outside, model.log_likelihood(x, z))
    other = torch.where(mask, x, torch.rand_like(x))
    torch.testing.assert_close(model.log_likelihood(other, z, mask), inside)


@pytest.mark.parametrize("variance", ["scalar", "per_pixel"])
def test_gradients_reach_every_parameter(variance: str) -> None:
    model = small(variance=variance, activation="leaky_relu")
    x = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    model.loss(TrainingBatch(x, x), generator=torch.Generator().manual_seed(1)).objective.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_reconstruction_is_an_image_in_the_unit_interval() -> None:
    x = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    model = small()
    r = model.reconstruct(x)
    assert r.shape == x.shape
    assert 0 < r.min() < r.max() < 1
    torch.testing.assert_close(r, torch.sigmoid(model.decode(model.encode(x).mean)[0]))


def test_same_seed_same_weights_and_the_global_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    first, second, other = (build_model(SMALL, seed).expand.weight for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_saved_model_gives_the_same_numbers(tmp_path) -> None:
    model = small(variance="per_pixel").eval()
    save_model(model, tmp_path)
    x = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_model(tmp_path).reconstruct(x), model.reconstruct(x))


def test_load_refuses_damaged_or_foreign_weights(tmp_path) -> None:
    with pytest.raises(DataError, match=r"model\.json: no such file"):
        load_model(tmp_path)
    save_model(small(), tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"not weights")
    with pytest.raises(DataError, match=r"weights\.safetensors: expected the weights"):
        load_model(tmp_path)
    save_model(small(), tmp_path / "a")
    save_model(small(latent_size=7), tmp_path / "b")
    (tmp_path / "b" / "weights.safetensors").replace(tmp_path / "a" / "weights.safetensors")
    with pytest.raises(DataError, match=r"weights\.safetensors: expected the weights"):
        load_model(tmp_path / "a")
    (tmp_path / "a" / "weights.safetensors").unlink()
    with pytest.raises(DataError, match="no such file"):
        load_model(tmp_path / "a")


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"kind: expected one of vae, .*, found 'gan'"):
        build_model(ModelConfig(kind="gan"), 0)
