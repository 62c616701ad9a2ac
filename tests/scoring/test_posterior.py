"""Dissimilarities of posteriors against numerical integration, torch.distributions and draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.spatial.distance import cosine as scipy_cosine
from scipy.stats import norm
from torch.distributions import Independent, Normal, kl_divergence

from twinvae.models import DiagonalGaussian
from twinvae.scoring import latent as posterior

Distance = Callable[[DiagonalGaussian, DiagonalGaussian], torch.Tensor]
NAMES = (
    "l1", "l2", "cosine", "kl", "kl_reverse", "jeffreys", "wasserstein", "fisher_rao",
    "bhattacharyya", "hellinger", "expected_l1", "expected_l2",
)  # fmt: skip
EXPECTED = ("expected_l1", "expected_l2")
SYMMETRIC = sorted(set(NAMES) - {"kl", "kl_reverse"})


def function(name: str) -> Distance:
    return getattr(posterior, name)


def pair(
    n: int = 4, latent: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[DiagonalGaussian, DiagonalGaussian]:
    g = torch.Generator().manual_seed(seed)

    def one() -> DiagonalGaussian:
        mean = torch.randn(n, latent, generator=g, dtype=torch.float64)
        variance = 0.1 + torch.rand(n, latent, generator=g, dtype=torch.float64) * 2
        return DiagonalGaussian(mean.to(dtype), variance.to(dtype))

    return one(), one()


def torch_normal(p: DiagonalGaussian) -> Independent:
    return Independent(Normal(p.mean, p.variance.sqrt()), 1)


def per_coordinate(
    p: DiagonalGaussian, q: DiagonalGaussian, what: Callable[..., float]
) -> np.ndarray:
    """``what(μ, σ, ν, τ)`` of every slice and coordinate."""
    arrays = (p.mean, p.variance.sqrt(), q.mean, q.variance.sqrt())
    return np.vectorize(what)(*(a.numpy() for a in arrays))


def test_kl_both_ways_and_jeffreys_agree_with_torch_distributions() -> None:
    p, q = pair()
    forth = kl_divergence(torch_normal(p), torch_normal(q))
    back = kl_divergence(torch_normal(q), torch_normal(p))
    torch.testing.assert_close(posterior.kl(p, q), forth)
    torch.testing.assert_close(posterior.kl_reverse(p, q), back)
    torch.testing.assert_close(posterior.jeffreys(p, q), forth + back)


def test_distances_of_means_agree_with_numpy_and_scipy() -> None:
    p, q = pair()
    a, b = p.mean.numpy(), q.mean.numpy()
    for i in range(4):
        assert posterior.l1(p, q)[i].item() == pytest.approx(np.linalg.norm(a[i] - b[i], 1))
        assert posterior.l2(p, q)[i].item() == pytest.approx(np.linalg.norm(a[i] - b[i]))
        assert posterior.cosine(p, q)[i].item() == pytest.approx(scipy_cosine(a[i], b[i]))


def test_wasserstein_is_the_distance_of_quantile_functions() -> None:
    p, q = pair(2)

    def squared(mu: float, sigma: float, nu: float, tau: float) -> float:
        gap = lambda u: (norm.ppf(u, mu, sigma) - norm.ppf(u, nu, tau)) ** 2  # noqa: E731
        return quad(gap, 0, 1, limit=200)[0]

    expected = np.sqrt(per_coordinate(p, q, squared).sum(1))
    np.testing.assert_allclose(posterior.wasserstein(p, q).numpy(), expected, rtol=1e-6)


def test_bhattacharyya_and_hellinger_are_overlap_integrals() -> None:
    p, q = pair(2)

    def overlap(mu: float, sigma: float, nu: float, tau: float) -> float:
        both = lambda z: np.sqrt(norm.pdf(z, mu, sigma) * norm.pdf(z, nu, tau))  # noqa: E731
        return quad(both, -30, 30, points=[mu, nu], limit=300)[0]

    coefficient = per_coordinate(p, q, overlap).prod(1)
    np.testing.assert_allclose(posterior.bhattacharyya(p, q).numpy(), -np.log(coefficient))
    np.testing.assert_allclose(posterior.hellinger(p, q).numpy(), np.sqrt(1 - coefficient))


def _shortest_path(mu: float, sigma: float, nu: float, tau: float) -> float:
    """Length of the shortest of many-legged paths under ds² = dμ²/σ² + 2 dσ²/σ²."""
    legs = 40
    ends = np.array([[mu, np.log(sigma)], [nu, np.log(tau)]])
    share = np.linspace(0, 1, legs + 1)[:, None]
    line = ends[0] * (1 - share) + ends[1] * share

    def steps(inner: np.ndarray) -> np.ndarray:
        path = line.copy()
        path[1:-1] = inner.reshape(-1, 2)
        d, middle = np.diff(path, axis=0), (path[1:, 1] + path[:-1, 1]) / 2
        return (d[:, 0] * np.exp(-middle)) ** 2 + 2 * d[:, 1] ** 2

    # The path of least energy is the shortest one, at constant speed.
    best = minimize(lambda inner: legs * steps(inner).sum(), line[1:-1].ravel(), method="L-BFGS-B")
    return float(np.sqrt(steps(best.x)).sum())


def test_fisher_rao_is_the_length_of_the_shortest_path() -> None:
    p, q = pair(1, 2)
    expected = np.sqrt((per_coordinate(p, q, _shortest_path) ** 2).sum(1))
    np.testing.assert_allclose(posterior.fisher_rao(p, q).numpy(), expected, rtol=3e-3)


def test_fisher_rao_at_equal_means_is_the_integral_of_the_metric() -> None:
    p, q = pair()
    same = DiagonalGaussian(p.mean, q.variance)
    length = 2**0.5 * (p.variance.sqrt() / q.variance.sqrt()).log().abs()
    torch.testing.assert_close(posterior.fisher_rao(p, same), length.square().sum(1).sqrt())


def test_expected_l1_is_an_integral() -> None:
    p, q = pair(2)

    def mean_gap(mu: float, sigma: float, nu: float, tau: float) -> float:
        gap = norm(mu - nu, np.hypot(sigma, tau))
        return quad(lambda z: abs(z) * gap.pdf(z), -40, 40, points=[0, mu - nu], limit=300)[0]

    expected = per_coordinate(p, q, mean_gap).sum(1)
    np.testing.assert_allclose(posterior.expected_l1(p, q).numpy(), expected, rtol=1e-6)


def test_expected_distances_agree_with_draws() -> None:
    p, q = pair(3, 16)
    rng = np.random.default_rng(0)
    shape = (20_000, 3, 16)
    gap = (
        p.mean.numpy() + rng.standard_normal(shape) * p.variance.sqrt().numpy()
        - q.mean.numpy() - rng.standard_normal(shape) * q.variance.sqrt().numpy()
    )  # fmt: skip
    l1, l2 = np.abs(gap).sum(-1).mean(0), np.linalg.norm(gap, axis=-1).mean(0)
    np.testing.assert_allclose(posterior.expected_l1(p, q).numpy(), l1, rtol=0.01)
    np.testing.assert_allclose(posterior.expected_l2(p, q).numpy(), l2, rtol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_equal_posteriors_are_nearest(name: str) -> None:
    p, q = pair(dtype=torch.float32)
    itself = function(name)(p, p)
    assert (function(name)(p, q) > itself).all()
    if name in EXPECTED:
        moved = DiagonalGaussian(p.mean + 0.1, p.variance)
        assert (function(name)(p, moved) > itself).all()
    else:
        assert torch.equal(itself, torch.zeros_like(itself))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_ones_are_symmetric(name: str) -> None:
    p, q = pair()
    torch.testing.assert_close(function(name)(p, q), function(name)(q, p))


def test_kl_is_not_symmetric() -> None:
    p, q = pair()
    assert not torch.allclose(posterior.kl(p, q), posterior.kl(q, p))


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_close_to_float64_even_for_tiny_differences(name: str) -> None:
    p, _ = pair(5, 128)
    for step in (1e-3, 1.0, 30.0):
        q = DiagonalGaussian(p.mean + step, p.variance * (1 + step))
        low = [DiagonalGaussian(g.mean.float(), g.variance.float()) for g in (p, q)]
        exact = function(name)(p, q)
        assert exact.isfinite().all()
        torch.testing.assert_close(function(name)(*low).double(), exact, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_function_documents_itself_and_ignores_its_neighbours(name: str) -> None:
    p, q = pair(4, 8)
    assert function(name).__doc__
    whole = function(name)(p, q)
    alone = function(name)(
        DiagonalGaussian(p.mean[2:3], p.variance[2:3]),
        DiagonalGaussian(q.mean[2:3], q.variance[2:3]),
    )
    torch.testing.assert_close(alone, whole[2:3])
