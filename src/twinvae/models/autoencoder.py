"""Plain autoencoders: a code instead of a posterior, dense or spatial.

Baur, Wiestler, Albarqouni & Navab 2018, Deep autoencoding models for unsupervised anomaly
segmentation in brain MR images. Their losses are the likelihoods `gaussian` and `laplace` here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from twinvae.config import ModelConfig
from twinvae.models.contract import Loss
from twinvae.models.convolutional import Convolutional
from twinvae.models.posterior import DiagonalGaussian


class DenseAutoencoder(Convolutional):
    """An autoencoder with a dense bottleneck and no prior; its code is given unit variance."""

    source: ClassVar[str] = "Baur et al. 2018 (dense AE)"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.add_encoder()
        self.code = self.bottleneck()
        self.add_decoder()

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """N(code, I); see ``Model.encode`` for what distances then mean."""
        code = self.read(self.code, self.features(x)[-1]).float()
        return DiagonalGaussian(code, torch.ones_like(code))

    def loss(
        self,
        x: Tensor,
        target: Tensor,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        mask: Tensor | None = None,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(target | code of x); nothing is sampled and ``kl_weight`` has no effect."""
        log_likelihood = self.log_likelihood(target, self.encode(x).mean[None], mask).mean()
        return Loss(-log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))


class SpatialAutoencoder(DenseAutoencoder):
    """An autoencoder whose code is a stack of maps (latent_size numbers in all)."""

    source: ClassVar[str] = "Baur et al. 2018 (spatial AE)"
    spatial: ClassVar[bool] = True
