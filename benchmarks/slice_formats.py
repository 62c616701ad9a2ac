"""Formats in which benchmarks/slice_store.py stores slices: each writes scans, and opens to read.

What ``open`` gives takes rising rows or a stretch of rows, and gives uint16 (rows, H, W).
"""

from __future__ import annotations

import importlib
import mmap
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.imaging.store import new_array

SHARD = 4096  # slices a file
TODAY = "one memory map"
Images = NDArray[np.uint16]
Scans = Iterator[Images]


class OneMap:
    """As twinvae writes slices; ``random``: the system is told not to read ahead."""

    def __init__(self, *, random: bool = False) -> None:
        self.random = random

    def write(self, folder: Path, scans: Scans, shape: tuple[int, ...]) -> None:
        """A scan at a time."""
        array, at = new_array(folder / "images.npy", np.uint16, shape), 0
        for scan in scans:
            array[at : at + len(scan)] = scan
            at += len(scan)
        array.flush()

    def open(self, folder: Path) -> Any:
        """As twinvae opens them."""
        array = np.load(folder / "images.npy", mmap_mode="r")
        if self.random:
            array._mmap.madvise(mmap.MADV_RANDOM)
        return array


class MapsByShard:
    """As many files as it takes, of ``SHARD`` slices each."""

    def write(self, folder: Path, scans: Scans, shape: tuple[int, ...]) -> None:
        """As ``OneMap.write``; a scan may go on in the next file."""
        at, array = 0, np.empty((0, *shape[1:]), np.uint16)
        for scan in scans:
            while len(scan):
                within = at % SHARD
                if not within:
                    _flush(array)
                    part = (min(SHARD, shape[0] - at), *shape[1:])
                    array = new_array(folder / f"images-{at // SHARD:04}.npy", np.uint16, part)
                now, scan = scan[: SHARD - within], scan[SHARD - within :]  # noqa: PLW2901
                array[within : within + len(now)] = now
                at += len(now)
        _flush(array)

    def open(self, folder: Path) -> Any:
        """As ``OneMap.open``."""
        return Shards([np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))])


class Shards:
    """Memory maps that look like one array."""

    def __init__(self, parts: list[Images]) -> None:
        self.parts = parts

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Images:
        """Rising rows, or a stretch."""
        if isinstance(rows, slice):
            first, last = rows.start // SHARD, (rows.stop - 1) // SHARD
            pieces = [
                self.parts[n][max(0, rows.start - n * SHARD) : rows.stop - n * SHARD]
                for n in range(first, last + 1)
            ]
            return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        ends = np.searchsorted(rows, np.arange(len(self.parts) + 1) * SHARD)
        found = np.empty((len(rows), *self.parts[0].shape[1:]), np.uint16)
        for n, (start, stop) in enumerate(pairwise(ends)):
            if start < stop:
                found[start:stop] = self.parts[n][rows[start:stop] - n * SHARD]
        return found


class HDF5:
    """One data set in one stretch of the file."""

    def write(self, folder: Path, scans: Scans, shape: tuple[int, ...]) -> None:
        """A scan at a time."""
        with importlib.import_module("h5py").File(folder / "images.h5", "w") as file:
            array, at = file.create_dataset("images", shape, np.uint16), 0
            for scan in scans:
                array[at : at + len(scan)] = scan
                at += len(scan)
        _to_disk(folder)

    def open(self, folder: Path) -> Any:
        """As ``OneMap.open``."""
        return importlib.import_module("h5py").File(folder / "images.h5", "r")["images"]


class Zarr:
    """Version 3, ``SHARD`` slices a shard, ``chunk`` slices a chunk; compressed or not.

    The writer keeps slices until a shard is full; else each scan would have it written anew.
    """

    def __init__(self, chunk: int, compressors: str | None) -> None:
        self.chunk, self.compressors = chunk, compressors

    def write(self, folder: Path, scans: Scans, shape: tuple[int, ...]) -> None:
        """A shard at a time."""
        side = shape[1:]
        array = importlib.import_module("zarr").create_array(
            folder / "images.zarr", shape=shape, dtype="uint16", shards=(SHARD, *side),
            chunks=(self.chunk, *side), compressors=self.compressors,
        )  # fmt: skip
        waiting, at = np.empty((SHARD, *side), np.uint16), 0
        for scan in scans:
            while len(scan):
                within = at % SHARD
                now, scan = scan[: SHARD - within], scan[SHARD - within :]  # noqa: PLW2901
                waiting[within : within + len(now)] = now
                at += len(now)
                if at % SHARD == 0 or at == shape[0]:
                    array[at - within - len(now) : at] = waiting[: within + len(now)]
        _to_disk(folder)

    def open(self, folder: Path) -> Any:
        """As ``OneMap.open``."""
        return importlib.import_module("zarr").open_array(folder / "images.zarr", mode="r")


FORMATS: dict[str, tuple[str, Any]] = {
    TODAY: ("numpy", OneMap()),
    "one memory map, no reading ahead": ("numpy", OneMap(random=True)),
    f"memory maps of {SHARD:,} slices": ("numpy", MapsByShard()),
    "HDF5": ("h5py", HDF5()),
    "zarr, 8 slices a chunk, plain": ("zarr", Zarr(8, None)),
    "zarr, 32 slices a chunk, zstd": ("zarr", Zarr(32, "auto")),
}
"""By name: the package it needs, and the format."""


def _flush(array: Any) -> None:
    if isinstance(array, np.memmap):
        array.flush()


def _to_disk(folder: Path) -> None:
    """What a memory map's flush does."""
    for path in files_of(folder):
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def files_of(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
