"""The logit-normal density integrates to one and agrees with torch.distributions."""

import pytest
import torch
from torch.distributions import Normal, SigmoidTransform, TransformedDistribution

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
