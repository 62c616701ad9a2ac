"""Parts: one prepared scan in a file of its own, until all are there and are merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinvae import __version__
from twinvae.files import atomic_path, digest, file_and_volume
from twinvae.imaging.recipe import FittedRecipe, PreparedScan
from twinvae.imaging.scan import ScanFiles
from twinvae.imaging.store import Block


def part_path(folder: Path, scan: ScanFiles, recipe: FittedRecipe) -> Path:
    """The file for this very scan: its row, its files as they now are, and this recipe."""
    state: list[Any] = [__version__, recipe.to_json(), vars(scan)]
    for path in (scan.image, scan.brain_mask, scan.tumour_mask):
        file = None if path is None else file_and_volume(path)[0]
        if file is not None and file.is_file():
            stat = file.stat()
            state.append([stat.st_size, stat.st_mtime_ns])
    return folder / f"{digest(state)}.npz"


def write_part(path: Path, prepared: PreparedScan) -> None:
    """Write a prepared scan's slices, index and statistics atomically."""
    index = prepared.index.astype(object).where(prepared.index.notna(), None)
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            images=prepared.images,
            brain=prepared.brain,
            tumour=prepared.tumour,
            index=np.array(json.dumps(index.to_dict("list"))),
            statistics=np.array(json.dumps(prepared.statistics)),
        )


def part_block(path: Path) -> Block:
    """The slices of a part and their rows of the index."""
    with np.load(path, allow_pickle=False) as part:
        index = pd.DataFrame(json.loads(str(part["index"])))
        index["tumour_px"] = index["tumour_px"].astype("Int64")
        return Block(part["images"], part["brain"], part["tumour"], index)


def part_slices(path: Path) -> int:
    """How many slices a part holds."""
    with np.load(path, allow_pickle=False) as part:
        return len(json.loads(str(part["index"]))["slice"])


def part_scan_row(path: Path, scan: ScanFiles) -> dict[str, Any]:
    """The scan's row of scans.tsv: who it is, and its statistics."""
    row = {name: getattr(scan, name) for name in ("subject", "session", "source", "role", "split")}
    with np.load(path, allow_pickle=False) as part:
        return {**row, **json.loads(str(part["statistics"]))}
