"""The slice store as one memory map, beside memory maps by shard, HDF5 and sharded zarr.

    python benchmarks/slice_store.py [--scans 192] [--size 64] [--rounds 5] [--out FILE]

192 scans of 130 slices are the paper's mixed source: 24,960 slices, 204 MB; ``--scans 1920`` is ten
times as much. Every format holds the same slices and is asked for the same rows; they take turns,
round by round, in one process. Ratios are of processor seconds, of all threads; those of the clock
stand in the remarks. Rows of a batch are drawn from all scans and sorted, as in training. "Not in
memory" means that the system was told to forget the files before each batch: a store larger than
the memory is read so, and there the clock counts. HDF5 and zarr are left out where they are not
installed: ``make bench`` gives them an environment of their own.

Then a writer of each format is killed when half of the scans are written, and what it left is
opened and compared.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import Row, ratios, row, short, write_part
from numpy.typing import NDArray
from slice_formats import FORMATS, SHARD, TODAY, Images, Scans, files_of

SLICES = 130  # of a scan: the middle ones of BraTS's 155
COLD = "4 random batches of 64, not in memory"
WRITE = "write, scan by scan"


class Cohort(NamedTuple):
    """How much is stored."""

    scans: int
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of all slices: (n, H, W)."""
        return (self.scans * SLICES, self.size, self.size)

    def all(self) -> Scans:
        """One after the other; at most 192 of them differ, too far apart for compression to see."""
        return (scan(self.size, number % 192) for number in range(self.scans))


@functools.cache
def scan(size: int, seed: int) -> Images:
    """Smooth tissue in black, with the noise of a scan, (130, size, size); made only once."""
    draw = np.random.default_rng(seed)
    x = (np.arange(size) - size / 2) / (0.38 * size)
    y, z = x[:, None], np.linspace(-0.9, 0.9, SLICES)[:, None, None]
    tissue = 24000 + 9000 * np.sin(5 * x + seed) * np.cos(4 * y) * np.cos(3 * z)
    noisy = tissue * (1 + 0.03 * draw.standard_normal(tissue.shape, dtype=np.float32))
    return (noisy * (x**2 + y**2 + z**2 < 1)).astype(np.uint16)


class Spent(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


Found = dict[str, dict[str, list[Spent]]]


def timed(work: Callable[[], object]) -> Spent:
    """What ``work`` takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall)


def random_rows(cohort: Cohort, seed: int, size: int, times: int) -> list[NDArray[np.int64]]:
    """Rows of ``times`` batches, each rising."""
    draw = np.random.default_rng((seed, size))
    return [np.sort(draw.choice(cohort.shape[0], size, replace=False)) for _ in range(times)]


def readings(cohort: Cohort, seed: int) -> dict[str, Callable[[Any], object]]:
    """What is read of an open store in one round."""
    count = cohort.shape[0]
    starts = np.random.default_rng(seed).integers(0, cohort.scans, 8) * SLICES

    def batches(size: int, times: int) -> Callable[[Any], object]:
        rows = random_rows(cohort, seed, size, times)
        return lambda array: [np.asarray(array[each]) for each in rows]

    return {
        "8 random batches of 64": batches(64, 8),
        "2 random batches of 256": batches(256, 2),
        "8 scans": lambda array: [np.array(array[at : at + SLICES]) for at in starts],
        "everything, in order": lambda array: [
            int(np.asarray(array[at : min(at + SHARD, count)]).max())
            for at in range(0, count, SHARD)
        ],
    }


def measure(
    cohort: Cohort, formats: dict[str, Any], folder: Path, rounds: int
) -> tuple[Found, dict[str, int]]:
    """Seconds by work and format, round by round, and bytes on the disk by format."""
    found: Found = {}
    stored: dict[str, int] = {}
    places = {name: folder / f"{number}" for number, name in enumerate(formats)}

    def keep(what: str, name: str, spent: Spent) -> None:
        found.setdefault(what, {}).setdefault(name, []).append(spent)

    names = list(formats)
    for _ in cohort.all():
        pass  # made and kept before the clock runs
    for number in range(rounds):
        first = number % len(names)
        order = names[first:] + names[:first]
        for name in order:
            shutil.rmtree(places[name], ignore_errors=True)
            places[name].mkdir()
            work = functools.partial(formats[name].write, places[name], cohort.all(), cohort.shape)
            keep(WRITE, name, timed(work))
            stored[name] = sum(path.stat().st_blocks * 512 for path in files_of(places[name]))
        if hasattr(os, "posix_fadvise"):
            for name in order:
                keep(COLD, name, not_in_memory(cohort, formats[name], places[name], number))
        arrays = {name: formats[name].open(places[name]) for name in order}
        for what, read in readings(cohort, number).items():
            for name in order:
                if "random" in what:
                    read(arrays[name])  # the first time brings it into memory
                keep(what, name, timed(functools.partial(read, arrays[name])))
    return found, stored


def not_in_memory(cohort: Cohort, form: Any, folder: Path, seed: int) -> Spent:
    """Reading a batch of a store whose pages the system has given up, four times."""
    spent = []
    for rows in random_rows(cohort, 1000 + seed, 64, 4):
        for path in files_of(folder):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        array = form.open(folder)
        spent.append(timed(functools.partial(array.__getitem__, rows)))
        del array  # a page that is mapped stays
    return Spent(*map(sum, zip(*spent, strict=True)))


def rows_of(cohort: Cohort, found: Found, stored: dict[str, int]) -> list[Row]:
    """The table's lines: every work of every format against today's."""
    rows = []
    for what, by_name in found.items():
        today = by_name[TODAY]
        took = 1e3 * statistics.median(one.wall for one in today)
        cpu = short(1e3 * statistics.median(one.cpu for one in today))
        rows.append(row(f"{TODAY}: {what}", "", [took], "ms", note=f"processor {cpu} ms"))
        for name, spent in by_name.items():
            if name != TODAY:
                spent_by = ratios([one.cpu for one in spent], [one.cpu for one in today])
                wall = ratios([one.wall for one in spent], [one.wall for one in today])
                clock = short(statistics.median(wall))
                rows.append(row(f"{name}: {what}", TODAY, spent_by, note=f"by the clock {clock} ×"))
    rows += [
        row(f"{name}: {cohort.shape[0]:,} slices on the disk", "", [size / 1e6], "MB")
        for name, size in stored.items()
    ]
    return rows


def killed_writer(name: str, cohort: Cohort, folder: Path) -> None:
    """Write with ``name`` and be killed when half of the scans are handed over."""

    def until_killed() -> Scans:
        for number, one in enumerate(cohort.all()):
            if number == cohort.scans // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield one

    FORMATS[name][1].write(folder, until_killed(), cohort.shape)


def whole_after_kill(name: str, cohort: Cohort, folder: Path) -> Row:
    """Scans that another process finds as they were written, of those handed to the writer."""
    given = ["--scans", str(cohort.scans), "--size", str(cohort.size)]
    command = [sys.executable, __file__, "--killed-writer", name, "--folder", str(folder), *given]
    folder.mkdir()
    subprocess.run(command, check=False)
    whole, note = 0, ""
    try:
        array = FORMATS[name][1].open(folder)
        for number, one in zip(range(cohort.scans // 2), cohort.all(), strict=False):
            stretch = slice(number * SLICES, (number + 1) * SLICES)
            whole += np.array_equal(np.asarray(array[stretch]), one)
    except Exception as error:  # whatever a format makes of half a file
        note = f"{type(error).__name__}: {error}"
    share = 100 * whole / (cohort.scans // 2)
    return row(f"{name}: scans whole after its writer was killed", "", [share], "%", note=note)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=192)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; by default among temporaries")
    parser.add_argument("--killed-writer", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    cohort = Cohort(given.scans, given.size)
    if given.killed_writer:
        killed_writer(given.killed_writer, cohort, given.folder)
        return
    able = {needs: importlib.util.find_spec(needs) is not None for needs, _ in FORMATS.values()}
    formats = {name: form for name, (needs, form) in FORMATS.items() if able[needs]}
    left_out = [f"{needs}: not installed" for needs, there in able.items() if not there]
    if not hasattr(os, "posix_fadvise"):
        left_out.append(f"{COLD}: this system cannot be told to forget files")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        found, stored = measure(cohort, formats, Path(name), given.rounds)
        rows = rows_of(cohort, found, stored)
        for number, form in enumerate(formats):
            rows.append(whole_after_kill(form, cohort, Path(name) / f"killed-{number}"))
    write_part(given.out, rows, left_out)


if __name__ == "__main__":
    main()
