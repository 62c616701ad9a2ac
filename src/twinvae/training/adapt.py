"""A healthy model adapted to the mixed source without labels: teacher and student, in rounds.

What the teacher finds calm in mixed training slices is taken for healthy; the student goes on
from the teacher's weights, on healthy and mixed slices, and is the next round's teacher. Pixels
that were not calm, tumours above all, do not count in its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from twinvae.config import TrainConfig
from twinvae.files import atomic_path
from twinvae.imaging import SliceStore, new_array
from twinvae.imaging.slabs import Slabs
from twinvae.models import Model
from twinvae.progress import progress_bar
from twinvae.training.compute import Compute
from twinvae.training.data import SliceData

_BATCH = 64
_SMOOTH_MM, _MARGIN_MM = 8.0, 5.0  # of the probability, and around what is not calm
Round = Callable[[Model, SliceData, TrainConfig, Path], Model]
"""Trains a model further on these data with these settings, and stores it in that folder."""


def adapted(
    model: Model,
    store: SliceStore,
    options: TrainConfig,
    compute: Compute,
    train: Round,
    folder: Path,
) -> Model:
    """``model`` after ``options.adapt.rounds`` rounds, the last one's stored in ``folder``.

    Round r keeps what it found calm in ``folder/round-r/calm.npy``, uint8 (n, H, W) for the n
    slices of ``store``, 1 where calm and in every healthy slice.
    """
    adapt = options.adapt
    if not adapt.rounds:
        return model
    again = options.model_copy(
        update={"epochs": adapt.epochs, "learning_rate": adapt.learning_rate}
    )
    mixed = store.select("mixed", "train")
    data = SliceData(
        store.images,
        store.brain,
        np.sort(np.concatenate([store.select("healthy", "train"), mixed])),
        store.select("healthy", "val"),
        Slabs.of_index(store.index),
    )
    pixel_mm = store.index["pixel_mm"].to_numpy(np.float64)
    for number in range(1, adapt.rounds + 1):
        own = folder / f"round-{number}"
        calm = _calm(model, data, mixed, pixel_mm, adapt.calm, compute, own / "calm.npy")
        here = folder if number == adapt.rounds else own
        model = train(model, replace(data, calm=calm), again, here)
    return model


def _calm(
    model: Model,
    data: SliceData,
    rows: NDArray[np.int64],
    pixel_mm: NDArray[np.float64],
    highest: float,
    compute: Compute,
    path: Path,
) -> NDArray[np.uint8]:
    """Where the slices ``rows`` look healthy to ``model``; kept in ``path`` and mapped from it."""
    network = compute.network(model.to(compute.device).eval())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, progress_bar("look for calm pixels", len(rows)) as bar:
        calm = new_array(temporary, np.uint8, data.images.shape)
        calm[:] = 1
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            with torch.inference_mode():
                _, lesion = network.examine(data.batch(part, compute.device))
            far = _far_from(lesion, highest, float(pixel_mm[part[0]]))
            calm[part] = far.squeeze(1).cpu().numpy()
            bar.advance(len(part))
        calm.flush()
    kept: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return kept


def _far_from(lesion: Tensor, highest: float, pixel_mm: float) -> Tensor:
    """Pixels ``_MARGIN_MM`` away from where the smoothed ``lesion`` is above ``highest``, bool."""
    wide, margin = (2 * round(mm / pixel_mm / 2) + 1 for mm in (_SMOOTH_MM, 2 * _MARGIN_MM))
    smooth = functional.avg_pool2d(lesion, wide, 1, wide // 2)
    suspicious = (smooth > highest).float()
    return functional.max_pool2d(suspicious, margin, 1, margin // 2) == 0
