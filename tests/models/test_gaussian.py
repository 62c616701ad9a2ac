"""The posterior's closed forms agree with torch.distributions."""

import torch
from torch.distributions import Independent, Normal, kl_divergence

from twinvae.models import DiagonalGaussian


def _posterior(seed: int = 0) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(7, 5, generator=generator)
    return DiagonalGaussian.from_parameters(mean, torch.randn(7, 5, generator=generator))


def test_kl_to_prior_is_that_of_torch_distributions() -> None:
    q = _posterior()
    reference = kl_divergence(Normal(q.mean, q.variance.sqrt()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(q.kl_to_prior(), reference, rtol=1e-5, atol=1e-5)


def test_variance_is_squared_softplus() -> None:
    q = DiagonalGaussian.from_parameters(torch.zeros(1, 3), torch.tensor([[-50.0, 0.0, 2.0]]))
    softplus = torch.log1p(torch.exp(torch.tensor([[-50.0, 0.0, 2.0]])))
    torch.testing.assert_close(q.variance, softplus**2 + 1e-6)
    assert (q.variance > 0).all()


def test_samples_have_the_posteriors_moments_and_density() -> None:
    q = _posterior()
    z = q.sample(40_000, torch.Generator().manual_seed(1))
    assert z.shape == (40_000, 7, 5)
    torch.testing.assert_close(z.mean(0), q.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(z.var(0), q.variance, atol=0.05, rtol=0.05)
    reference = Independent(Normal(q.mean, q.variance.sqrt()), 1)
    entropy = -reference.log_prob(z).mean(0)
    torch.testing.assert_close(entropy, reference.entropy(), atol=0.05, rtol=0.02)


def test_samples_repeat_with_the_same_generator_and_leave_the_global_one_alone() -> None:
    q, state = _posterior(), torch.random.get_rng_state()
    first = q.sample(2, torch.Generator().manual_seed(3))
    assert torch.equal(first, q.sample(2, torch.Generator().manual_seed(3)))
    assert torch.equal(state, torch.random.get_rng_state())
