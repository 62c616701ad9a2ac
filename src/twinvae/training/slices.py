"""Which slices a model is trained on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from twinvae.config import TrainConfig
from twinvae.errors import ConfigError
from twinvae.imaging import SliceStore
from twinvae.models import ROLES, Model
from twinvae.training.compute import Compute
from twinvae.training.fit import SliceData, to_tensor

_BATCH = 256


def role_slices(store: SliceStore, role: str, options: TrainConfig) -> SliceData:
    """Slices for the model of ``role``, as ``options.data`` says; memory-mapped."""
    wanted = {"own": role, "pooled": None}.get(options.data, options.data)
    train, val = store.select(wanted, "train"), store.select(wanted, "val")
    return SliceData(store.images, store.brain, train, val)


def with_reconstructions(store: SliceStore, healthy: Model, compute: Compute) -> SliceData:
    """Mixed slices, and the healthy model's reconstructions of those for training; in memory.

    Validation slices stay as they are.
    """
    train, val = store.select("mixed", "train"), store.select("mixed", "val")
    again = _reconstructed(store, train, healthy, compute)
    images = np.concatenate([store.images[train], again, store.images[val]])
    brain = np.concatenate([store.brain[train], store.brain[train], store.brain[val]])
    first_val = 2 * len(train)
    return SliceData(images, brain, np.arange(first_val), np.arange(first_val, len(images)))


def conditioned_slices(store: SliceStore, labelled_patients: int, seed: int) -> SliceData:
    """Slices of both roles, each with its role's number as condition.

    With ``labelled_patients`` > 0 the tumour masks of so many training subjects of the mixed source
    are used, and of no other: their tumour-free slices get the healthy condition.
    """
    condition = (store.index["role"] == "mixed").to_numpy().astype(np.int64) * ROLES.index("mixed")
    if labelled_patients:
        condition[_labelled_tumour_free(store, labelled_patients, seed)] = ROLES.index("healthy")
    train, val = store.select(split="train"), store.select(split="val")
    return SliceData(store.images, store.brain, train, val, condition)


def _labelled_tumour_free(store: SliceStore, count: int, seed: int) -> NDArray[np.int64]:
    """Rows without tumour of ``count`` mixed training subjects that have a mask."""
    known = store.index[store.index["tumour_px"].notna()]
    known = known[(known["role"] == "mixed") & (known["split"] == "train")]
    people = known["source"] + "\t" + known["subject"]
    having = sorted(set(people))
    if count > len(having):
        raise ConfigError(
            f"options.labelled_patients: expected at most {len(having)} (training subjects of the "
            f"mixed source with a tumour mask), found {count}"
        )
    chosen = np.random.default_rng(seed).choice(having, count, replace=False)
    rows = known.index[people.isin(chosen) & (known["tumour_px"] == 0)]
    return rows.to_numpy(np.int64)


def _reconstructed(
    store: SliceStore, rows: NDArray[np.int64], healthy: Model, compute: Compute
) -> NDArray[np.uint16]:
    """The healthy model's reconstructions of ``rows``, stored as slices are; (n, H, W)."""
    parts = [np.empty((0, *store.images.shape[1:]), np.uint16)]
    network = compute.network(healthy.to(compute.device).eval())
    for start in range(0, len(rows), _BATCH):
        x = to_tensor(store.images[rows[start : start + _BATCH]], compute.device)
        with torch.inference_mode():
            x_h = network.reconstruct(x)
        parts.append(np.rint(x_h.squeeze(1).cpu().numpy() * 65535).astype(np.uint16))
    return np.concatenate(parts)
