"""Networks and likelihoods."""

from twinvae.models.posterior import DiagonalGaussian
from twinvae.models.registry import MODELS, build_model, load_model, save_model
from twinvae.models.vae import VAE, Loss, layer_table

__all__ = [
    "MODELS",
    "VAE",
    "DiagonalGaussian",
    "Loss",
    "build_model",
    "layer_table",
    "load_model",
    "save_model",
]
