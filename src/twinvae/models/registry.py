"""Which models there are, and how they are stored: weights as safetensors beside their config."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from twinvae.config import ModelConfig, dump_config, validated
from twinvae.errors import ConfigError, DataError
from twinvae.files import atomic_path, read_json, write_json
from twinvae.models.vae import VAE

MODELS: dict[str, type[VAE]] = {"vae": VAE}


def build_model(config: ModelConfig, seed: int) -> VAE:
    """A freshly initialised model; the same seed gives the same weights.

    Torch's global generator is left as it was found.
    """
    if config.kind not in MODELS:
        raise ConfigError(f"kind: expected one of {', '.join(MODELS)}, found {config.kind!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[config.kind](config)


def save_model(model: VAE, folder: Path) -> None:
    """Write ``model.json`` and ``weights.safetensors`` into ``folder``."""
    write_json(folder / "model.json", dump_config(model.config))
    weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    with atomic_path(folder / "weights.safetensors") as path:
        save_file(weights, path)


def load_model(folder: Path) -> VAE:
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
