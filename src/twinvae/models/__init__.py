"""Networks and likelihoods, under one contract; the paper's model is ``vae.py``."""

from twinvae.models.contract import DiagonalGaussian, Loss, Model, TrainingBatch
from twinvae.models.describe import layer_table, model_lines
from twinvae.models.registry import (
    MODELS,
    SHARED,
    all_models,
    build_model,
    halve_weights,
    load_model,
    load_twins,
    model_class,
    round_weights,
    save_model,
    twin_folders,
)
from twinvae.models.unets import mirror
from twinvae.models.vae import VAE, LatentModel, log_density

__all__ = [
    "MODELS",
    "SHARED",
    "VAE",
    "DiagonalGaussian",
    "LatentModel",
    "Loss",
    "Model",
    "TrainingBatch",
    "all_models",
    "build_model",
    "halve_weights",
    "layer_table",
    "load_model",
    "load_twins",
    "log_density",
    "mirror",
    "model_class",
    "model_lines",
    "round_weights",
    "save_model",
    "twin_folders",
]
