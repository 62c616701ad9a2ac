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
from twinvae.models.twins import SHARED, load_twins, twin_folders
from twinvae.models.vae import VAE
from twinvae.models.words import model_lines

__all__ = [
    "MODELS",
    "ROLES",
    "SHARED",
    "VAE",
    "DiagonalGaussian",
    "LatentModel",
    "Loss",
    "Model",
    "all_models",
    "build_model",
    "layer_table",
    "load_model",
    "load_twins",
    "model_class",
    "model_lines",
    "save_model",
    "twin_folders",
]
