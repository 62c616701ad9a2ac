"""Parts: one prepared scan in a file of its own, until all are there and are merged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinvae.config import RecipeStep, dump_config, recipe_files
from twinvae.files import (
    atomic_path,
    digest,
    file_state,
    read_json,
    temporary_folder,
    write_json,
)
from twinvae.imaging.fitted_recipe import FittedRecipe
from twinvae.imaging.prepared import PreparedScan
from twinvae.imaging.scan import ScanFiles
from twinvae.imaging.store import Block
from twinvae.provenance import STAGE_CODE, code_digest


def part_path(folder: Path, scan: ScanFiles, recipe: FittedRecipe) -> Path:
    """The file for this very scan: its row, its files as they now are, and this recipe."""
    return folder / f"{digest([*_made_by(recipe.steps), recipe.to_json(), *_state(scan)])}.npz"


def fitted_once(
    folder: Path,
    steps: Sequence[RecipeStep],
    train: Sequence[ScanFiles],
    fit: Callable[[], FittedRecipe],
) -> FittedRecipe:
    """What ``fit`` gives for these steps and training scans, kept in ``folder`` if it learnt.

    Whoever needs it first fits it; the first to finish publishes it, and everybody, in whatever
    process and on whatever machine, goes on with that one file's values.
    """
    wanted = [dump_config(step) for step in steps]
    key = digest([*_made_by(steps), wanted, [_state(scan) for scan in train]])
    path = folder / f"recipe-{key}.json"
    if path.is_file():
        return FittedRecipe.read(path)
    recipe = fit()
    if not any(recipe.fitted):
        return recipe
    _publish(path, json.dumps(recipe.to_json(), indent=2, allow_nan=False) + "\n")
    return FittedRecipe.read(path)


def keep_reason(part: Path, reason: str) -> None:
    """Say, where the part would be, why there is none."""
    write_json(_reason_path(part), reason)


def read_reason(part: Path) -> str | None:
    """Why there is no part; None when nobody said."""
    path = _reason_path(part)
    return str(read_json(path)) if path.is_file() else None


def forget_reason(part: Path) -> None:
    """The part is there after all."""
    _reason_path(part).unlink(missing_ok=True)


def write_part(path: Path, prepared: PreparedScan) -> None:
    """Write a prepared scan's slices, index and statistics atomically."""
    index = prepared.index.astype(object).where(prepared.index.notna(), None)
    arrays: dict[str, Any] = {
        "images": prepared.images,
        "brain": prepared.brain,
        "tumour": prepared.tumour,
        "index": np.array(json.dumps(index.to_dict("list"))),
        "statistics": np.array(json.dumps(prepared.statistics)),
        "facts": np.array(json.dumps(prepared.facts)),
    }
    if prepared.mirror is not None:
        arrays["mirror"] = prepared.mirror
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def own_parts(folder: Path) -> list[Path]:
    """Every file in ``folder`` that this module may have written."""
    names = ("*.npz", "*.skipped.json", "recipe-*.json")
    return [path for name in names for path in sorted(folder.glob(name))]


def part_block(path: Path) -> Block:
    """The slices of a part and their rows of the index."""
    with np.load(path, allow_pickle=False) as part:
        index = pd.DataFrame(json.loads(str(part["index"])))
        index["tumour_px"] = index["tumour_px"].astype("Int64")
        mirror = part.get("mirror")
        return Block(part["images"], part["brain"], part["tumour"], index, mirror)


def part_slices(path: Path) -> int:
    """How many slices a part holds."""
    with np.load(path, allow_pickle=False) as part:
        return len(json.loads(str(part["index"]))["slice"])


def part_scan_row(path: Path, scan: ScanFiles) -> dict[str, Any]:
    """The scan's row of scans.tsv: who it is, and its statistics."""
    row = {name: getattr(scan, name) for name in ("subject", "session", "source", "role", "split")}
    with np.load(path, allow_pickle=False) as part:
        return {**row, **json.loads(str(part["statistics"]))}


def part_facts(path: Path) -> dict[str, Any]:
    """What quality control noted of the scan."""
    with np.load(path, allow_pickle=False) as part:
        facts: dict[str, Any] = json.loads(str(part["facts"]))
        return facts


def _reason_path(part: Path) -> Path:
    return part.with_suffix(".skipped.json")


def _made_by(steps: Sequence[RecipeStep]) -> list[Any]:
    """The code, and the files that the steps themselves read."""
    own = (file_state(path) for path in recipe_files(steps))
    return [code_digest(STAGE_CODE["prepare"]), *own]


def _state(scan: ScanFiles) -> list[Any]:
    """A scan's row, and the size and time of its files as they now are."""
    state: list[Any] = [vars(scan)]
    for path in (scan.image, scan.brain_mask, scan.tumour_mask):
        if path is not None:
            state.append(file_state(path))
    return state


def _publish(path: Path, text: str) -> None:
    """Write UTF-8 text unless the file is there: of several writers at once, the first one wins."""
    with temporary_folder(path) as room:
        (room / path.name).write_text(text, encoding="utf-8")
        try:
            os.link(room / path.name, path)
        except FileExistsError:
            pass
        except OSError:  # no hard links here; the last writer wins
            os.replace(room / path.name, path)
