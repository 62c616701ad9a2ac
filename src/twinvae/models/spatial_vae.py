"""The paper's VAE with latent maps instead of a latent vector: every variable has a place."""

from __future__ import annotations

from typing import ClassVar

from twinvae.models.vae import VAE


class SpatialVAE(VAE):
    """A VAE whose latent variables are maps, so that encodings differ where images do."""

    source: ClassVar[str] = "Albu, Enescu & Malagò 2020; spatial bottleneck: Baur et al. 2018"
    spatial: ClassVar[bool] = True
