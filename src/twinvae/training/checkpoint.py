"""Checkpoints: everything a killed training needs to go on with bit-identical results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from twinvae.errors import DataError
from twinvae.files import atomic_path

_FILE = "checkpoint.safetensors"
MAIN, ADVERSARY = "adam", "adversary"
"""Names of the optimisers: the model's and, where it has one, its adversary's."""


@dataclass(frozen=True)
class Checkpoint:
    """How far training came."""

    epoch: int
    """Epochs completed."""
    fingerprint: str
    """Of the configuration and data; a checkpoint of another one is never resumed."""


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimisers: Mapping[str, torch.optim.Adam],
    checkpoint: Checkpoint,
) -> None:
    """Write weights and every Adam's moments to one file, atomically."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{key}": value for key, value in state.items()}
    metadata = {"epoch": str(checkpoint.epoch), "fingerprint": checkpoint.fingerprint}
    with atomic_path(folder / _FILE) as path:
        whole = {k: v.contiguous().cpu() for k, v in tensors.items()}
        path.write_bytes(save(whole, metadata))  # save_file says of a full disk no OSError


def load_checkpoint(
    folder: Path, model: nn.Module, optimisers: Mapping[str, torch.optim.Adam], fingerprint: str
) -> int:
    """Restore ``model`` and ``optimisers`` in place; return the epochs completed, 0 for none.

    A checkpoint of another configuration or other data is ignored.
    """
    path = folder / _FILE
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        if metadata["fingerprint"] != fingerprint:
            return 0
        tensors = load_file(path)
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path}: expected a checkpoint, found {error}; delete it") from None
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    model.load_state_dict(weights)
    for name, optimiser in optimisers.items():
        _restore(optimiser, name, tensors)
    return int(metadata["epoch"])


def _restore(optimiser: torch.optim.Adam, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Give ``optimiser`` the moments stored as ``name``."""
    moments: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for stored, value in tensors.items():
        owner, _, rest = stored.partition(".")
        if owner == name:
            index, _, key = rest.partition(".")
            if key != "step":
                # In the parameter's own layout: a fused step goes through memory as it lies.
                value = torch.empty_like(parameters[int(index)]).copy_(value)  # noqa: PLW2901
            moments.setdefault(int(index), {})[key] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def delete_checkpoint(folder: Path) -> None:
    """Remove the checkpoint once the finished weights are stored."""
    (folder / _FILE).unlink(missing_ok=True)
