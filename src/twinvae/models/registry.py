"""Which models there are, and how one, or a run's two, are stored.

A model is a folder: its config as JSON, its weights as safetensors.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from twinvae.config import ModelConfig, dump_config, validated
from twinvae.errors import ConfigError, DataError
from twinvae.files import atomic_path, read_json, write_json
from twinvae.models.adversarial import (
    AdversarialAutoencoder,
    ConstrainedAdversarialAutoencoder,
)
from twinvae.models.autoencoders import DenseAutoencoder, SpatialAutoencoder, SpatialVAE
from twinvae.models.contract import Model
from twinvae.models.residual_vae import ResidualVAE
from twinvae.models.slab_unet import SlabUNet
from twinvae.models.unets import DenoisingAutoencoder, HealingUNet
from twinvae.models.vae import VAE
from twinvae.models.vae_variants import (
    ConditionalVAE,
    ConditionalVAELabelled,
    ContextVAE,
    RestorationVAE,
)
from twinvae.vocabulary import ROLES

ENTRY_POINTS = "twinvae.models"
"""Group under which other packages offer models: ``kind = "package.module:Class"``."""

MODELS: dict[str, type[Model]] = {
    "vae": VAE,
    "spatial_vae": SpatialVAE,
    "residual_vae": ResidualVAE,
    "context_vae": ContextVAE,
    "restoration_vae": RestorationVAE,
    "conditional_vae": ConditionalVAE,
    "conditional_vae_labelled": ConditionalVAELabelled,
    "dense_ae": DenseAutoencoder,
    "spatial_ae": SpatialAutoencoder,
    "adversarial_ae": AdversarialAutoencoder,
    "constrained_adversarial_ae": ConstrainedAdversarialAutoencoder,
    "denoising_ae": DenoisingAutoencoder,
    "healing_unet": HealingUNet,
    "slab_unet": SlabUNet,
}
"""The models of this package, by kind."""

SHARED = "shared"
"""Folder of a model that is both twins."""


def all_models() -> dict[str, type[Model]]:
    """Every model by kind: this package's, then those that installed packages offer."""
    models = dict(MODELS)
    for entry in entry_points(group=ENTRY_POINTS):
        models.setdefault(entry.name, _loaded(entry))
    return models


def model_class(kind: str) -> type[Model]:
    """The model of that kind; ``ConfigError`` when there is none."""
    found = MODELS.get(kind) or all_models().get(kind)
    if found is None:
        raise ConfigError(f"kind: expected one of {', '.join(all_models())}, found {kind!r}")
    return found


def _loaded(entry: EntryPoint) -> type[Model]:
    try:
        found = entry.load()
    except Exception as error:
        raise ConfigError(f"model {entry.name}: expected {entry.value}, found {error}") from error
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ConfigError(f"model {entry.name}: expected a subclass of Model, found {found!r}")
    return found


def build_model(config: ModelConfig, seed: int) -> Model:
    """A freshly initialised model; the same seed gives the same weights.

    Torch's global generator is left as it was found.
    """
    kind = model_class(config.kind)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed reseeds GPUs, too
        return kind(config)


def round_weights(model: Model) -> None:
    """Round every weight to half precision; the model goes on computing in float32."""
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(value.half())


def halve_weights(path: Path) -> None:
    """Store those weights of a safetensors file in half precision that lose nothing by it."""
    weights = load_file(path)
    halved = {name: value.half() for name, value in weights.items()}
    kept = {n: h if torch.equal(h.float(), weights[n]) else weights[n] for n, h in halved.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(kept))


def save_model(model: Model, folder: Path) -> None:
    """Write ``model.json`` and ``weights.safetensors`` into ``folder``."""
    write_json(folder / "model.json", dump_config(model.config))
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    with atomic_path(folder / "weights.safetensors") as path:
        path.write_bytes(save(weights))  # save_file says of a full disk no OSError


def load_model(folder: Path) -> Model:
    """Rebuild a stored model, in evaluation mode on the CPU.

    Raises ``DataError`` when a file is missing, damaged, or does not fit the other.
    """
    config = validated(ModelConfig, read_json(folder / "model.json"), str(folder / "model.json"))
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    model = build_model(config, seed=0)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise DataError(
            f"{path}: expected the weights of {folder / 'model.json'}: {error}"
        ) from None
    return model.eval()


def twin_folders(models: Path) -> dict[str, Path]:
    """Folder of each role's model in ``models``."""
    shared = models / SHARED
    return {role: shared if (shared / "model.json").is_file() else models / role for role in ROLES}


def load_twins(models: Path) -> tuple[Model, Model]:
    """The healthy and the mixed model stored in ``models``, on the CPU, in evaluation mode.

    A conditional model is loaded once; its two views share all weights.
    """
    folders = twin_folders(models)
    healthy = load_model(folders["healthy"])
    shared = folders["mixed"] == folders["healthy"]
    mixed = healthy if shared else load_model(folders["mixed"])
    return healthy.for_role("healthy"), mixed.for_role("mixed")
