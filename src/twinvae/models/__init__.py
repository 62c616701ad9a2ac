"""Networks and likelihoods, under one contract."""

from twinvae.models.contract import ROLES, Loss, Model
from twinvae.models.latent import LatentModel
from twinvae.models.posterior import DiagonalGaussian
from twinvae.models.registry import (
    MODELS,
    all_models,
    build_model,
    load_model,
    model_class,
    save_model,
)
from twinvae.models.table import layer_table
from twinvae.models.vae import VAE

__all__ = [
    "MODELS",
    "ROLES",
    "VAE",
    "DiagonalGaussian",
    "LatentModel",
    "Loss",
    "Model",
    "all_models",
    "build_model",
    "layer_table",
    "load_model",
    "model_class",
    "save_model",
]
