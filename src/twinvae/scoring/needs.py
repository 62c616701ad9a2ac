"""What scores need of the models: not every kind of model can give every score."""

from __future__ import annotations

from twinvae.models import LatentModel
from twinvae.scoring.batch import Models, SliceBatch


def mixed_encodes(models: Models) -> bool:
    """Whether the mixed model has an encoding to compare."""
    return models.mixed.has_encoding


def healthy_encodes(models: Models) -> bool:
    """Whether the healthy model has an encoding."""
    return models.healthy.has_encoding


def healthy_is_variational(models: Models) -> bool:
    """Whether the healthy model has a density and a learned posterior: else it has no ELBO."""
    return isinstance(models.healthy, LatentModel) and models.healthy.variational


def latent_model(batch: SliceBatch) -> LatentModel:
    """The healthy model, as one that decodes; for scores that need ``healthy_is_variational``."""
    model = batch.models.healthy
    if not isinstance(model, LatentModel):
        raise TypeError(f"expected a healthy model with latent variables, found {type(model)}")
    return model
