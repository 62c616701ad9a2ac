"""Dissimilarities between two posteriors p = N(μ, diag σ²) and q = N(ν, diag τ²), in closed form.

Every function takes two ``DiagonalGaussian`` of shape (n, latent), float32 or float64, and returns
(n,): at least 0, larger = more different, exactly 0 for equal arguments unless its line says
otherwise. Distances are in units of the latent variables, divergences in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from twinvae.models import DiagonalGaussian

Distance = Callable[[DiagonalGaussian, DiagonalGaussian], Tensor]

_TINY = 1e-12  # keeps a mean of length zero from being divided by
DRAWS = 32
"""Pairs of mirrored draws behind ``expected_l2``."""
SEED = 20240229
"""Of those draws; the same for every slice, run and machine."""


def l1(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """Σ |μ − ν|: L1 distance between the means."""
    return (p.mean - q.mean).abs().sum(-1)


def l2(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """‖μ − ν‖₂: L2 distance between the means. Albu, Enescu & Malagò 2020, Algorithm 1."""
    return (p.mean - q.mean).square().sum(-1).sqrt()


def cosine(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """1 − ⟨μ, ν⟩ / (‖μ‖ ‖ν‖), in [0, 2], as ½ ‖μ/‖μ‖ − ν/‖ν‖‖², which does not cancel."""
    return 0.5 * (_unit(p.mean) - _unit(q.mean)).square().sum(-1)


def kl(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """KL(p ‖ q) = ½ Σ [σ²/τ² + (μ − ν)²/τ² − 1 − ln(σ²/τ²)]. Kullback & Leibler 1951."""
    ratio = p.variance / q.variance
    shift = (p.mean - q.mean).square() / q.variance
    return 0.5 * (ratio - 1 - ratio.log() + shift).sum(-1)


def kl_reverse(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """KL(q ‖ p)."""
    return kl(q, p)


def jeffreys(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """KL(p ‖ q) + KL(q ‖ p). Jeffreys 1946; symmetric."""
    return kl(p, q) + kl(q, p)


def wasserstein(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """2-Wasserstein: √(‖μ − ν‖² + ‖σ − τ‖²). Olkin & Pukelsheim 1982, covariances commuting."""
    spread = (p.variance.sqrt() - q.variance.sqrt()).square()
    return ((p.mean - q.mean).square() + spread).sum(-1).sqrt()


def fisher_rao(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """Geodesic distance under the Fisher metric: √Σ dᵢ², dᵢ = √2 arcosh(1 + δᵢ).

    δ = ((μ − ν)²/2 + (σ − τ)²) / (2στ), coordinate by coordinate: a product of hyperbolic planes.
    arcosh(1 + δ) is computed as 2 arsinh √(δ/2), which does not cancel. Costa, Santos & Strapasson
    2015, Fisher information distance: a geometrical reading.
    """
    sigma, tau = p.variance.sqrt(), q.variance.sqrt()
    delta = (0.5 * (p.mean - q.mean).square() + (sigma - tau).square()) / (2 * sigma * tau)
    each = 2 * torch.asinh((0.5 * delta).sqrt())
    return (2 * each.square()).sum(-1).sqrt()


def bhattacharyya(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """−ln ∫√(pq) = Σ [(μ − ν)²/(4(σ² + τ²)) + ½ ln((σ² + τ²)/(2στ))]. Bhattacharyya 1943.

    The logarithm's argument is 1 + (σ − τ)²/(2στ), which does not cancel.
    """
    sigma, tau = p.variance.sqrt(), q.variance.sqrt()
    shift = (p.mean - q.mean).square() / (4 * (p.variance + q.variance))
    return (shift + 0.5 * torch.log1p((sigma - tau).square() / (2 * sigma * tau))).sum(-1)


def hellinger(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """√(1 − ∫√(pq)) = √(1 − e^−B), in [0, 1], float64. Hellinger 1909; B as in ``bhattacharyya``.

    It ranks slices as B does, but is 1 to float64's last digit once B exceeds 37: among posteriors
    that hardly overlap it tells nothing apart, and B should be used.
    """
    return (-torch.expm1(-bhattacharyya(p, q).double())).sqrt()


def expected_l1(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """E Σ |z − w| for independent z ~ p, w ~ q; minimal, not 0, for equal means.

    z − w ~ N(m, s²) with m = μ − ν, s² = σ² + τ², so that E|z − w| is the mean of a folded normal,
    s √(2/π) e^(−m²/2s²) + m erf(m/(s√2)): exact, no draws. Leone, Nelson & Nottingham 1961.
    """
    shift, spread = p.mean - q.mean, (p.variance + q.variance).sqrt()
    scaled = shift / (spread * math.sqrt(2))
    near = spread * math.sqrt(2 / math.pi) * torch.exp(-scaled.square())
    return (near + shift * torch.erf(scaled)).sum(-1)


def expected_l2(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """E ‖z − w‖₂ for independent z ~ p, w ~ q; minimal, not 0, for equal means.

    Mean of ‖m ± s·ε‖ over ``DRAWS`` standard normal ε, the same for every slice, each with its
    mirror image: by convexity the estimate itself is minimal at m = 0. Monte Carlo error about
    1/√(2·DRAWS·latent) of the spread's share.
    """
    shift, spread = p.mean - q.mean, (p.variance + q.variance).sqrt()
    step = fixed_noise(DRAWS, shift.shape[-1], shift) * spread
    both = (shift + step).square().sum(-1).sqrt() + (shift - step).square().sum(-1).sqrt()
    return 0.5 * both.mean(0)


def fixed_noise(draws: int, latent: int, like: Tensor) -> Tensor:
    """Standard normal (draws, 1, latent), the same at every call, on ``like``'s device and type."""
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn((draws, 1, latent), generator=generator, dtype=torch.float64)
    return noise.to(like)


def _unit(mean: Tensor) -> Tensor:
    return mean / mean.square().sum(-1, keepdim=True).sqrt().clamp(min=_TINY)
