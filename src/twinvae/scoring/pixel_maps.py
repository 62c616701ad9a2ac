"""Maps of many slices: in memory for one scan, in files for a run's test slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from twinvae.config import ScoringConfig
from twinvae.imaging import new_array
from twinvae.outputs import replaced
from twinvae.progress import progress_bar
from twinvae.scoring.batch import Fitted, Models, SliceBatch
from twinvae.scoring.maps import AbnormalityMap
from twinvae.scoring.score import Slices, batches
from twinvae.training import Compute


def map_rows(slices: Slices) -> NDArray[np.int64]:
    """Rows that maps are written for: test slices of mixed sources with a tumour mask, rising."""
    index = slices.index
    chosen = (index["role"] == "mixed") & (index["split"] == "test") & index["tumour_px"].notna()
    return np.flatnonzero(chosen.to_numpy()).astype(np.int64)


def map_batch(
    batch: SliceBatch, maps: Sequence[AbnormalityMap], compute: Compute
) -> dict[str, NDArray[np.float32]]:
    """Every map of a batch, by name, float32 (n, H, W)."""
    with torch.no_grad(), compute.arithmetic():
        return {entry.name: entry.of(batch).float().cpu().numpy()[:, 0] for entry in maps}


def write_maps(
    folder: Path,
    slices: Slices,
    models: Models,
    maps: Sequence[AbnormalityMap],
    options: ScoringConfig,
    compute: Compute,
    fitted: Fitted | None = None,
) -> None:
    """Write ``NAME.npy``, float32 (rows, H, W) in the order of ``map_rows``, one batch at a time.

    The folder holds just these maps afterwards; without maps there is none.
    """
    rows = map_rows(slices)
    with replaced(folder, "maps") as room:
        shape = (len(rows), *slices.images.shape[1:])
        files = {
            entry.name: new_array(room / f"{entry.name}.npy", np.float32, shape) for entry in maps
        }
        at = 0
        with progress_bar("maps", len(rows)) as bar:
            for batch in batches(slices, rows, models, options, compute, fitted):
                for name, values in map_batch(batch, maps, compute).items():
                    files[name][at : at + len(values)] = values
                at += len(batch.x)
                bar.advance(len(batch.x))
        for file in files.values():
            file.flush()
