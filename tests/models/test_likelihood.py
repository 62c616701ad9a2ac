"""The logit-normal density integrates to one and agrees with torch.distributions."""

import pytest
import torch
from torch.distributions import Laplace, Normal, SigmoidTransform, TransformedDistribution

from twinvae.config import ModelConfig
from twinvae.models import build_model
from twinvae.models.vae import logit_normal_log_density


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (1.5, 0.2), (-2.0, 3.0), (0.3, 0.01)])
def test_density_integrates_to_one(mean: float, variance: float) -> None:
    edge = 1e-9
    x = torch.linspace(edge, 1 - edge, 2_000_001, dtype=torch.float64)
    log_density = logit_normal_log_density(x, torch.tensor(mean), torch.tensor(variance), edge / 2)
    assert torch.trapezoid(log_density.exp(), x).item() == pytest.approx(1, abs=1e-5)


def test_density_is_that_of_a_transformed_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(100, generator=generator, dtype=torch.float64) * 0.96 + 0.02
    mean = torch.randn(100, generator=generator, dtype=torch.float64)
    variance = torch.rand(100, generator=generator, dtype=torch.float64) + 0.01
    reference = TransformedDistribution(Normal(mean, variance.sqrt()), SigmoidTransform())
    ours = logit_normal_log_density(x, mean, variance, 0.01)
    torch.testing.assert_close(ours, reference.log_prob(x), rtol=1e-5, atol=1e-5)


def test_pixels_are_clipped_before_their_density() -> None:
    black, white = torch.tensor([0.0, 0.01]), torch.tensor([1.0, 0.99])
    zero, one = torch.zeros(()), torch.ones(())
    for pair in (black, white):
        first, second = logit_normal_log_density(pair, zero, one, 0.01)
        assert first == second
        assert first.isfinite()


@pytest.mark.parametrize("likelihood", ["logit_normal", "gaussian", "laplace"])
def test_a_model_has_the_likelihood_that_is_configured(likelihood: str) -> None:
    """Log p(x | z) of VAE's own decoding, against torch's distributions."""
    config = ModelConfig(
        image_size=16, encoder_channels=(4, 8), decoder_channels=(4,), latent_size=3,
        likelihood=likelihood, variance="per_pixel", clip=0.01,
    )  # fmt: skip
    model = build_model(config, seed=0).eval()
    draw = torch.Generator().manual_seed(1)
    x = torch.rand((2, 1, 16, 16), generator=draw) * 0.9 + 0.05
    z = torch.randn((3, 2, 3), generator=draw)
    mean, variance = model.decode(z.flatten(0, 1))  # type: ignore[operator]
    mean, variance = (part.reshape(3, 2, 1, 16, 16) for part in (mean, variance))
    expected = {
        "logit_normal": TransformedDistribution(Normal(mean, variance.sqrt()), SigmoidTransform()),
        "gaussian": Normal(mean.sigmoid(), variance.sqrt()),
        "laplace": Laplace(mean.sigmoid(), (variance / 2).sqrt()),
    }[likelihood].log_prob(x.expand(3, 2, 1, 16, 16))
    torch.testing.assert_close(model.log_density(x, z), expected, rtol=1e-4, atol=1e-4)
