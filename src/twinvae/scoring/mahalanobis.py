"""The latent difference held against how it varies among the healthy.

VAE-H's blur alone moves every encoding: Δ = μ(x) − μ(x_h) of healthy slices has a mean m and a
covariance C of its own. Both are fitted on healthy validation slices, which also set the
thresholds. Scored by the very fit they helped to make, they would look too healthy (with L = 128
latent variables and a few hundred slices, markedly so: the threshold would fall and false alarms
rise). A run therefore scores each healthy validation subject by a fit that leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.needs import mixed_encodes
from twinvae.scoring.registry import Fit, score

_RIDGE = 1e-6  # share of the mean variance added to each, so that none is zero


def latent_difference(batch: SliceBatch) -> Tensor:
    """Δ = μ(x) − μ(x_h), (n, latent)."""
    return batch.posterior.mean - batch.posterior_h.mean


def learn(differences: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """From Δ of healthy slices, (n, latent): ``mean`` m, ``spread`` and ``whiten``.

    ``spread``: standard deviation of each coordinate. ``whiten`` W: W Wᵀ = C⁻¹, C the covariance
    with Ledoit–Wolf shrinkage, which is invertible however few slices there are.
    """
    from sklearn.covariance import ledoit_wolf

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


LATENT_DIFFERENCE = Fit("latent_difference", latent_difference, learn)


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
