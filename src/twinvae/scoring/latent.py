"""The paper's score, and other dissimilarities of VAE's encodings of x and of its healthy x_h.

Those between two posteriors p = N(μ, diag σ²) and q = N(ν, diag τ²) are in closed form. Each takes
two ``DiagonalGaussian`` of shape (n, latent), float32 or float64, and returns (n,): at least 0,
larger = more different, exactly 0 for equal arguments unless its line says otherwise. Distances are
in units of the latent variables, divergences in nats.

VAE-H's blur alone moves every encoding. Two answers: the difference may be held against how it
varies among the healthy (the Mahalanobis lengths), or two reconstructions may be compared (the
symmetric form).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinvae.models import DiagonalGaussian
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.registry import Fit, healthy_encodes, mixed_encodes, score

Distance = Callable[[DiagonalGaussian, DiagonalGaussian], Tensor]

_NAMED_NEXT = "named by Albu, Enescu & Malagò 2020 as next; "
_DDAD = "two reconstructions compared: Cai et al. 2022 (DDAD), in image space"
_TINY = 1e-12  # keeps a mean of length zero from being divided by
_RIDGE = 1e-6  # share of the mean variance added to each, so that none is zero
DRAWS = 32
"""Pairs of mirrored draws behind ``expected_l2``."""
SEED = 20240229
"""Of those draws; the same for every slice, run and machine."""


def l2(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """‖μ − ν‖₂: L2 distance between the means. Albu, Enescu & Malagò 2020, Algorithm 1."""
    return (p.mean - q.mean).square().sum(-1).sqrt()


@score(
    "latent_l2",
    "L2 distance between VAE's posterior means of x and of x_h (the paper's score)",
    "Albu, Enescu & Malagò 2020, Algorithm 1",
    applies=mixed_encodes,
)
def latent_l2(batch: SliceBatch) -> Tensor:
    """d(x) = ‖μ(x) − μ(x_h)‖₂."""
    return l2(batch.posterior, batch.posterior_h)


@score(
    "healthy_mean_norm",
    "L2 norm of VAE-H's posterior mean of x",
    "Albu, Enescu & Malagò 2020 (second statistic compared with)",
    applies=healthy_encodes,
)
def healthy_mean_norm(batch: SliceBatch) -> Tensor:
    """‖μ_H(x)‖₂: distance of the encoding from the prior's centre."""
    return batch.healthy_posterior.mean.square().sum(dim=1).sqrt()


def _posterior_score(name: str, summary: str, source: str) -> Callable[[Distance], Distance]:
    """Register the decorated dissimilarity of VAE's posteriors of x and x_h as ``latent_NAME``."""

    def register(distance: Distance) -> Distance:
        def compute(batch: SliceBatch) -> Tensor:
            return distance(batch.posterior, batch.posterior_h)

        compute.__doc__ = distance.__doc__
        about = f"{summary}, between VAE's posteriors of x and x_h"
        score(f"latent_{name}", about, source, applies=mixed_encodes)(compute)
        return distance

    return register


@_posterior_score("l1", "L1 distance between the means", "the paper's score, other norm")
def l1(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """Σ |μ − ν|: L1 distance between the means."""
    return (p.mean - q.mean).abs().sum(-1)


@_posterior_score("cosine", "one minus the cosine between the means", "angle, not length")
def cosine(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """1 − ⟨μ, ν⟩ / (‖μ‖ ‖ν‖), in [0, 2], as ½ ‖μ/‖μ‖ − ν/‖ν‖‖², which does not cancel."""
    return 0.5 * (_unit(p.mean) - _unit(q.mean)).square().sum(-1)


@_posterior_score("kl", "KL(q(z|x) ‖ q(z|x_h))", _NAMED_NEXT + "Kullback & Leibler 1951")
def kl(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """KL(p ‖ q) = ½ Σ [σ²/τ² + (μ − ν)²/τ² − 1 − ln(σ²/τ²)]. Kullback & Leibler 1951."""
    ratio = p.variance / q.variance
    shift = (p.mean - q.mean).square() / q.variance
    return 0.5 * (ratio - 1 - ratio.log() + shift).sum(-1)


@_posterior_score("kl_reverse", "KL(q(z|x_h) ‖ q(z|x))", _NAMED_NEXT + "as latent_kl")
def kl_reverse(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """KL(q ‖ p)."""
    return kl(q, p)


@_posterior_score("jeffreys", "sum of the KL both ways", "Jeffreys 1946")
def jeffreys(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """KL(p ‖ q) + KL(q ‖ p). Jeffreys 1946; symmetric."""
    return kl(p, q) + kl(q, p)


@_posterior_score("w2", "2-Wasserstein distance", _NAMED_NEXT + "Olkin & Pukelsheim 1982")
def wasserstein(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """2-Wasserstein: √(‖μ − ν‖² + ‖σ − τ‖²). Olkin & Pukelsheim 1982, covariances commuting."""
    spread = (p.variance.sqrt() - q.variance.sqrt()).square()
    return ((p.mean - q.mean).square() + spread).sum(-1).sqrt()


@_posterior_score(
    "fisher_rao",
    "geodesic distance under the Fisher metric",
    _NAMED_NEXT + "Costa, Santos & Strapasson 2015",
)
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


@_posterior_score("bhattacharyya", "minus the log of the overlap", "Bhattacharyya 1943")
def bhattacharyya(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """−ln ∫√(pq) = Σ [(μ − ν)²/(4(σ² + τ²)) + ½ ln((σ² + τ²)/(2στ))]. Bhattacharyya 1943.

    The logarithm's argument is 1 + (σ − τ)²/(2στ), which does not cancel.
    """
    sigma, tau = p.variance.sqrt(), q.variance.sqrt()
    shift = (p.mean - q.mean).square() / (4 * (p.variance + q.variance))
    return (shift + 0.5 * torch.log1p((sigma - tau).square() / (2 * sigma * tau))).sum(-1)


@_posterior_score("hellinger", "Hellinger distance; saturates at 1", "Hellinger 1909")
def hellinger(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """√(1 − ∫√(pq)) = √(1 − e^−B), in [0, 1], float64. Hellinger 1909; B as in ``bhattacharyya``.

    It ranks slices as B does, but is 1 to float64's last digit once B exceeds 37: among posteriors
    that hardly overlap it tells nothing apart, and B should be used.
    """
    return (-torch.expm1(-bhattacharyya(p, q).double())).sqrt()


@_posterior_score(
    "expected_l1",
    "expected L1 distance between samples, exact",
    "Leone, Nelson & Nottingham 1961 (mean of a folded normal)",
)
def expected_l1(p: DiagonalGaussian, q: DiagonalGaussian) -> Tensor:
    """E Σ |z − w| for independent z ~ p, w ~ q; minimal, not 0, for equal means.

    z − w ~ N(m, s²) with m = μ − ν, s² = σ² + τ², so that E|z − w| is the mean of a folded normal,
    s √(2/π) e^(−m²/2s²) + m erf(m/(s√2)): exact, no draws. Leone, Nelson & Nottingham 1961.
    """
    shift, spread = p.mean - q.mean, (p.variance + q.variance).sqrt()
    scaled = shift / (spread * math.sqrt(2))
    near = spread * math.sqrt(2 / math.pi) * torch.exp(-scaled.square())
    return (near + shift * torch.erf(scaled)).sum(-1)


@_posterior_score(
    "expected_l2",
    "expected L2 distance between samples, fixed draws",
    "Monte Carlo with the same mirrored draws for every slice",
)
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


def latent_difference(batch: SliceBatch) -> Tensor:
    """Δ = μ(x) − μ(x_h), (n, latent)."""
    return batch.posterior.mean - batch.posterior_h.mean


def learn_difference(differences: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """From Δ of healthy slices, (n, latent): ``mean`` m, ``spread`` and ``whiten``.

    ``spread``: standard deviation of each coordinate. ``whiten`` W: W Wᵀ = C⁻¹, C the covariance
    with Ledoit–Wolf shrinkage, which is invertible however few slices there are.
    """
    from sklearn.covariance import ledoit_wolf  # slow to import, and detection never fits

    mean = differences.mean(axis=0)
    centred = differences - mean
    if len(centred) > 1:
        covariance, _ = ledoit_wolf(centred, assume_centered=True)
    else:  # one slice has no spread
        covariance = np.zeros((len(mean), len(mean)))
    ridge = _RIDGE * np.trace(covariance) / len(mean) + np.finfo(np.float32).tiny
    precision = np.linalg.inv(covariance + ridge * np.eye(len(mean)))
    return {
        "mean": mean,
        "spread": np.sqrt(centred.var(axis=0) + ridge),
        "whiten": np.linalg.cholesky((precision + precision.T) / 2),
    }


LATENT_DIFFERENCE = Fit("latent_difference", latent_difference, learn_difference)
"""Healthy validation slices also set the thresholds. Scored by the very fit they helped to make,
they would look too healthy (with L = 128 latent variables and a few hundred slices, markedly so:
the threshold would fall and false alarms rise); ``fitted.py`` leaves each subject out."""


@score(
    "latent_mahalanobis",
    "Mahalanobis length of μ(x) − μ(x_h), fitted on healthy validation slices",
    "Mahalanobis 1936; shrinkage: Ledoit & Wolf 2004",
    fit=LATENT_DIFFERENCE,
    applies=mixed_encodes,
)
def mahalanobis(batch: SliceBatch) -> Tensor:
    """√((Δ − m)ᵀ C⁻¹ (Δ − m)) = ‖(Δ − m) W‖₂."""
    centred, fitted = _centred(batch)
    return (centred @ fitted["whiten"]).square().sum(1).sqrt()


@score(
    "latent_mahalanobis_diagonal",
    "the same with every coordinate on its own",
    "standardised Euclidean distance; Mahalanobis 1936 with a diagonal covariance",
    fit=LATENT_DIFFERENCE,
    applies=mixed_encodes,
)
def diagonal_mahalanobis(batch: SliceBatch) -> Tensor:
    """√(Σ (Δᵢ − mᵢ)² / Cᵢᵢ)."""
    centred, fitted = _centred(batch)
    return (centred / fitted["spread"]).square().sum(1).sqrt()


@score(
    "latent_l2_centred",
    "L2 length of μ(x) − μ(x_h) less its mean over healthy validation slices",
    "variant of Albu, Enescu & Malagò 2020, Algorithm 1: what VAE-H's blur adds is taken off",
    fit=LATENT_DIFFERENCE,
    applies=mixed_encodes,
)
def centred_l2(batch: SliceBatch) -> Tensor:
    """‖Δ − m‖₂."""
    centred, _ = _centred(batch)
    return centred.square().sum(1).sqrt()


def _centred(batch: SliceBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Δ − m, (n, latent), and all that was fitted."""
    fitted = batch.fitted[LATENT_DIFFERENCE.name]
    return latent_difference(batch) - fitted["mean"], fitted


@score(
    "latent_l2_symmetric",
    "L2 distance between VAE's posterior means of its own reconstruction of x and of x_h",
    f"variant of Albu, Enescu & Malagò 2020, Algorithm 1; {_DDAD}",
    applies=mixed_encodes,
)
def latent_l2_symmetric(batch: SliceBatch) -> Tensor:
    """‖μ(x_m) − μ(x_h)‖₂, x_m = VAE.rec(x)."""
    mean = batch.models.mixed.encode(batch.own).mean
    return (mean - batch.posterior_h.mean).square().sum(1).sqrt()
