"""The paper's variational autoencoder: convolutions of stride 2, Gaussian posterior, logit-normal.

Albu, Enescu & Malagò 2020; where it is silent, the authors' experiment files (argo, 2020).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from twinvae.config import ModelConfig
from twinvae.models.convolutional import Convolutional
from twinvae.models.posterior import DiagonalGaussian


class VAE(Convolutional):
    """The paper's VAE: 4×4 convolutions of stride 2, a dense Gaussian bottleneck."""

    source: ClassVar[str] = "Albu, Enescu & Malagò 2020; Kingma & Welling 2014"
    variational: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.add_encoder()
        self.posterior_mean = self.bottleneck()
        self.posterior_raw = self.bottleneck()
        self.add_decoder()

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Posterior of the latent variables given ``x`` (batch, 1, H, W) in [0, 1]."""
        return self.posterior(self.features(x)[-1])

    def posterior(self, last_map: Tensor) -> DiagonalGaussian:
        """Posterior given the encoder's last activations."""
        mean, raw = (
            self.read(head, last_map) for head in (self.posterior_mean, self.posterior_raw)
        )
        return DiagonalGaussian.from_parameters(mean, raw)
