"""Scoring slices: the stage's work, shared by runs and by detection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from twinvae.config import ScoringConfig
from twinvae.progress import progress_bar
from twinvae.scoring.batch import Models, SliceBatch
from twinvae.scoring.registry import Score
from twinvae.training import Compute, to_tensor

KEYS = ["subject", "source", "role", "split", "slice", "position", "brain_px", "tumour_px"]


class Slices(Protocol):
    """Prepared slices: a slice store, or one scan just prepared."""

    @property
    def images(self) -> NDArray[np.uint16]:
        """(n, H, W), intensity in [0, 1] times 65535."""

    @property
    def brain(self) -> NDArray[np.uint8]:
        """(n, H, W), 1 inside the brain."""

    @property
    def index(self) -> pd.DataFrame:
        """One row a slice, columns as in slices/index.tsv."""


def batches(
    slices: Slices,
    models: Models,
    options: ScoringConfig,
    compute: Compute,
) -> Iterator[SliceBatch]:
    """Slices in order, ``options.batch_size`` at a time."""
    index = slices.index

    def column(name: str, rows: slice) -> torch.Tensor:
        values = index[name].to_numpy(dtype=np.float32)[rows]
        return torch.from_numpy(values.copy()).to(compute.device)

    for start in range(0, len(index), options.batch_size):
        rows = slice(start, start + options.batch_size)
        yield SliceBatch(
            to_tensor(slices.images[rows], compute.device),
            torch.from_numpy(slices.brain[rows].astype(bool)).unsqueeze(1).to(compute.device),
            position=column("position", rows),
            brain_mm2=column("brain_px", rows) * column("spacing_mm", rows).square(),
            pixel_mm=column("pixel_mm", rows),
            models=models,
            options=options,
        )


def score_slices(
    slices: Slices,
    models: Models,
    scores: Sequence[Score],
    options: ScoringConfig,
    compute: Compute,
    *,
    label: str | None = None,
) -> pd.DataFrame:
    """One row a slice, in the order given: the key columns, then one float64 column a score.

    Shows a progress bar when ``label`` is given.
    """
    values: dict[str, list[NDArray[np.float64]]] = {s.name: [] for s in scores}
    with progress_bar(label or "", len(slices.index), hidden=label is None) as bar:
        for batch in batches(slices, models, options, compute):
            with torch.inference_mode(), compute.autocast():
                for s in scores:
                    values[s.name].append(s.compute(batch).double().cpu().numpy())
            bar.advance(len(batch.x))
    table = slices.index[KEYS].reset_index(drop=True)
    columns = {name: np.concatenate(parts) for name, parts in values.items() if parts}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)
