"""The slice store: every prepared slice of a cohort, memory-mapped, beside one index."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from twinvae.cohort.manifest import read_strings
from twinvae.errors import DataError, StageError
from twinvae.files import temporary_folder, write_json, write_table
from twinvae.imaging.fitted_recipe import FittedRecipe
from twinvae.imaging.prepared import INDEX_COLUMNS

SKIPPED_COLUMNS = ("subject", "session", "source", "role", "split", "image", "reason")
_ARRAYS: dict[str, type[np.generic]] = {
    "images": np.uint16,
    "brain": np.uint8,
    "tumour": np.uint8,
    "mirror": np.uint16,
}
"""What a store holds; ``mirror`` if its recipe has the step align_mirror."""
_NUMBERS: dict[str, Any] = {
    "slice": "int64",
    "position": "float64",
    "brain_px": "int64",
    "tumour_px": "Int64",
    "spacing_mm": "float64",
    "pixel_mm": "float64",
}


@dataclass(frozen=True)
class Block:
    """Some slices: arrays (n, H, W) as in the store, and their n rows of the index."""

    images: NDArray[np.uint16]
    brain: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    index: pd.DataFrame
    mirror: NDArray[np.uint16] | None = None


@dataclass(frozen=True)
class SliceStore:
    """A folder of prepared slices, read-only.

    ``images``: uint16 (n, H, W), intensity times 65535; ``brain``, ``tumour``: uint8 (n, H, W),
    0 or 1; ``index``: n rows in the same order (``tumour_px`` is ``<NA>`` where unknown);
    ``skipped``: the scans that could not be prepared, with the reason; ``mirror``: as of a
    ``PreparedScan``.
    """

    folder: Path
    images: NDArray[np.uint16]
    brain: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    index: pd.DataFrame
    skipped: pd.DataFrame
    mirror: NDArray[np.uint16] | None = None

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a finished store; raises ``StageError`` when it is not there or does not fit."""
        folder = Path(folder)
        if not (folder / "index.tsv").is_file():
            raise StageError(f"{folder}: expected prepared slices, found no index.tsv; run prepare")
        index = _read_index(folder / "index.tsv")
        stored = folder / "recipe.json"
        recipe = FittedRecipe.read(stored) if stored.is_file() else None
        arrays = {name: _mapped(folder / f"{name}.npy", name) for name in _names(recipe)}
        shape = arrays["images"].shape
        for name, array in arrays.items():
            if array.ndim != 3 or array.shape != shape or len(array) != len(index):
                raise StageError(
                    f"{folder / name}.npy: expected {len(index)} slices of images.npy's size "
                    f"{shape[1:]}, found {array.shape}; run prepare again"
                )
        return cls(folder=folder, index=index, skipped=_read_skipped(folder), **arrays)

    @classmethod
    def write(
        cls,
        folder: Path,
        blocks: Iterable[Block],
        *,
        slices: int,
        size: int,
        recipe: FittedRecipe | None = None,
        skipped: Iterable[dict[str, str]] = (),
        extra: dict[str, pd.DataFrame] | None = None,
    ) -> Self:
        """Write ``blocks``, ``slices`` in all of ``size`` × ``size`` pixels, and open the result.

        One block is in memory at a time. The index goes in last: until then the folder is no
        store. ``extra`` are further tables, by file name.
        """
        folder = Path(folder)
        with temporary_folder(folder / "index.tsv") as room:
            index = _write_arrays(room, blocks, (slices, size, size), _names(recipe))
            if recipe is not None:
                write_json(room / "recipe.json", recipe.to_json())
            lost = pd.DataFrame(list(skipped), columns=list(SKIPPED_COLUMNS))
            for name, table in {"skipped.tsv": lost, **(extra or {})}.items():
                write_table(room / name, table)
            write_table(room / "index.tsv", index)
            for name in ("index.tsv", "mirror.npy"):  # not every store has the second
                (folder / name).unlink(missing_ok=True)
            for file in sorted(room.iterdir(), key=lambda file: file.name == "index.tsv"):
                os.replace(file, folder / file.name)
        return cls.open(folder)

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.index)

    @property
    def size(self) -> int:
        """Side of a slice, in pixels."""
        return int(self.images.shape[1])

    @property
    def recipe(self) -> FittedRecipe:
        """The recipe the slices were prepared with."""
        return FittedRecipe.read(self.folder / "recipe.json")

    def select(self, role: str | None = None, split: str | None = None) -> NDArray[np.int64]:
        """Row numbers of the slices of one role, one split, both, or all; rising."""
        wanted = np.ones(len(self.index), bool)
        for name, value in (("role", role), ("split", split)):
            if value is not None:
                wanted &= (self.index[name] == value).to_numpy()
        return np.flatnonzero(wanted).astype(np.int64)


def new_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A .npy file of zeros, mapped to be filled; its room on the disk is taken at once.

    Raises ``OSError`` when the disk is too full. Met later, while the map is written, a full disk
    would end the process with a signal (SIGBUS) and no word.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _names(recipe: FittedRecipe | None) -> list[str]:
    """The arrays of a store."""
    return [name for name in _ARRAYS if name != "mirror" or (recipe is not None and recipe.aligned)]


def _write_arrays(
    room: Path, blocks: Iterable[Block], shape: tuple[int, int, int], names: Iterable[str]
) -> pd.DataFrame:
    arrays = {name: new_array(room / f"{name}.npy", _ARRAYS[name], shape) for name in names}
    rows: list[pd.DataFrame] = []
    at = 0
    for block in blocks:
        for name, array in arrays.items():
            array[at : at + len(block.index)] = getattr(block, name)
        at += len(block.index)
        rows.append(block.index[list(INDEX_COLUMNS)])
    if at != shape[0]:
        raise ValueError(f"expected {shape[0]} slices, found {at}")
    for array in arrays.values():
        array.flush()
    return pd.concat(rows, ignore_index=True)


def _mapped(path: Path, name: str) -> Any:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StageError(f"{path}: expected an array, found {error}; run prepare again") from None
    if array.dtype != _ARRAYS[name]:
        raise StageError(
            f"{path}: expected {np.dtype(_ARRAYS[name])}, found {array.dtype}; run prepare again"
        )
    return array


def _read_index(path: Path) -> pd.DataFrame:
    table = _read_table(path, INDEX_COLUMNS)
    try:
        for name, dtype in _NUMBERS.items():
            numbers = pd.to_numeric(table[name].replace("", None))
            table[name] = numbers.astype(dtype)
    except (ValueError, TypeError) as error:
        raise StageError(f"{path}: expected numbers as {name}, found {error}") from None
    return table


def _read_skipped(folder: Path) -> pd.DataFrame:
    path = folder / "skipped.tsv"
    if not path.is_file():
        return pd.DataFrame(columns=list(SKIPPED_COLUMNS))
    return _read_table(path, SKIPPED_COLUMNS)


def _read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = read_strings(path, "\t")
    except DataError as error:
        raise StageError(str(error)) from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise StageError(f"{path}: missing the columns {' '.join(missing)}; run prepare again")
    return table[list(columns)]
