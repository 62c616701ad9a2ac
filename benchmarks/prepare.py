"""Seconds and memory a scan takes to prepare, beside the same recipe in TorchIO and in MONAI.

    python benchmarks/prepare.py [--data DIR] [--scans 3] [--repeats 5] [--no-rivals] [--out FILE]

Scans are 240×240×155 as BraTS ships them: generated from the MNI152 brain, or the *_t2.nii.gz and
*-t2w.nii.gz below DIR. Every tool runs in a process of its own on one core, with one thread, and
has prepared one scan before the clock runs; its imports do not count. Seconds are of the core, so
that other programs on the machine hardly matter. The tools take turns scan by scan, and ratios are
paired. TorchIO and MONAI are installed into a throw-away environment; when
that fails, they are left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from measuring import Row, ratios, row, write_part

from twinvae.imaging.steps.register import mni_t1

SHAPE = (240, 240, 155)
OWN = ("twinvae", "twinvae-n4", "twinvae-register")
LIMITS = {"twinvae": 0.5, "twinvae-n4": 4.0}
AIMS = {"torchio": 3.0, "monai": 2.0}  # times our seconds
MOST_GIB = 1.5
WORKER = Path(__file__).with_name("prepare_worker.py")


class Worker:
    """A tool in a process of its own."""

    def __init__(self, python: str | Path, tool: str, core: int) -> None:
        """Start it; it is ready when it first answers."""
        self.tool = tool
        self.process = subprocess.Popen(
            [str(python), str(WORKER), tool, str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def prepare(self, path: Path, save: Path | None = None) -> dict[str, float]:
        """Prepare one scan and return what the worker measured."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{path}{f' > {save}' if save else ''}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # said below
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise RuntimeError(f"{self.tool} ended without an answer")

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def brats_like(folder: Path, count: int) -> list[Path]:
    """The MNI152 brain with the contrast of T2w, a smooth field and noise, in BraTS's frame."""
    t1 = np.asarray(nib.load(mni_t1()).dataobj, np.float32)
    t1 = t1[:, :, 12:167] / t1.max()
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in t1.shape), indexing="ij")
    field = np.exp(0.2 * x - 0.15 * y**2 + 0.1 * z)
    paths = []
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 15, t1.shape)
        brain = np.where(t1 > 0, np.clip((1100 - 800 * t1) * field + noise, 1, None), 0)
        image = np.zeros(SHAPE, np.int16)
        image[21:218, 3:236] = brain
        affine = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
        paths.append(folder / f"generated-{number}-t2w.nii.gz")
        nib.save(nib.Nifti1Image(image[::-1, ::-1], affine), paths[-1])
    return paths


def rivals_python(folder: Path) -> Path | None:
    """The interpreter of an environment with TorchIO and MONAI, or None, with the reason said."""
    torch = importlib.metadata.version("torch").partition("+")[0]
    try:
        venv.create(folder, with_pip=True)
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = [str(python), "-m", "pip", "install", "-qq", f"torch=={torch}"]
        subprocess.run([*install, "torchio", "monai", "nibabel"], check=True, timeout=1800)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"TorchIO and MONAI are left out: they could not be installed ({error})")
        return None
    return python


def measured(
    workers: Sequence[Worker], scans: Sequence[Path], repeats: int
) -> dict[str, list[dict[str, float]]]:
    """What each worker measured for every scan and repeat, in one order for all."""
    results: dict[str, list[dict[str, float]]] = {worker.tool: [] for worker in workers}
    for turn in range(repeats):
        for scan in scans:
            for worker in workers[:: 1 if turn % 2 else -1]:
                results[worker.tool].append(worker.prepare(scan))
    return results


def show(results: dict[str, list[dict[str, float]]]) -> None:
    """The table, and the targets."""
    print(f"{'':18} {'core s':>7} {'clock s':>8} {'peak GiB':>9} {'÷ twinvae, paired':>26}")
    base = np.array([one["seconds"] for one in results["twinvae"]])
    for tool, rows in results.items():
        seconds = np.array([one["seconds"] for one in rows])
        peak = max(one["peak_gib"] for one in rows)
        clock = np.median([one["wall"] for one in rows])
        low, middle, high = np.percentile(seconds / base, [0, 50, 100])
        ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        print(f"{tool:18} {np.median(seconds):7.2f} {clock:8.2f} {peak:9.2f} {ratio:>26}")
    for tool, limit in LIMITS.items():
        found = float(np.median([one["seconds"] for one in results[tool]]))
        peak = max(one["peak_gib"] for one in results[tool])
        met = "met" if found <= limit and peak < MOST_GIB else "MISSED"
        print(f"target {tool}: at most {limit:g} s and {MOST_GIB:g} GiB: {met}")


def rows_of(results: dict[str, list[dict[str, float]]]) -> list[Row]:
    """The lines of ``make bench``'s table."""
    seconds = {tool: [one["seconds"] for one in rows] for tool, rows in results.items()}
    peaks = {tool: max(one["peak_gib"] for one in rows) for tool, rows in results.items()}
    rows = [
        row(f"{tool}: prepare a 240×240×155 scan", "", seconds[tool], "s", most=LIMITS.get(tool),
            note="seconds of one core")
        for tool in OWN
    ]  # fmt: skip
    rows += [
        row(f"{tool}: prepare a scan", "twinvae", ratios(seconds[tool], seconds["twinvae"]),
            least=least, note=f"{peaks[tool]:.2f} GiB at most")
        for tool, least in AIMS.items() if tool in results
    ]  # fmt: skip
    return [*rows, row("twinvae: memory of a worker", "", [peaks["twinvae"]], "GiB", most=MOST_GIB)]


def main() -> None:
    """Prepare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder of BraTS scans")
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--rivals-python", help="an interpreter that has TorchIO and MONAI")
    parser.add_argument("--out", type=Path, help="also write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.data:
            found = {*options.data.rglob("*t2.nii.gz"), *options.data.rglob("*t2w.nii.gz")}
            scans = sorted(found)[: options.scans]
            if not scans:
                sys.exit(f"{options.data}: expected *t2.nii.gz or *t2w.nii.gz below, found none")
        else:
            scans = brats_like(folder, options.scans)
        python = options.rivals_python
        if python is None and not options.no_rivals:
            python = rivals_python(folder / "env")
        core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        workers = [Worker(sys.executable, tool, core) for tool in OWN]
        workers += [Worker(python, tool, core) for tool in AIMS if python]
        left_out = [] if python else ["TorchIO and MONAI: no environment that has them"]
        pictures = {}
        for worker in list(workers):  # each one's first scan, untimed
            try:
                worker.prepare(scans[0], folder / f"{worker.tool}.npy")
            except RuntimeError as error:  # a rival that is not installed costs no other
                if worker.tool not in AIMS:
                    raise
                left_out.append(f"{worker.tool}: {error}")
                workers.remove(worker)
                continue
            pictures[worker.tool] = np.load(folder / f"{worker.tool}.npy").astype(float)
        kind = f"scans below {options.data}" if options.data else "generated scans"
        print(f"{len(scans)} {kind}, {options.repeats} times each, one core, reading included")
        results = measured(workers, scans, options.repeats)
        show(results)
        write_part(options.out, rows_of(results), left_out)
        for tool in AIMS:
            if tool in pictures and pictures[tool].shape == pictures["twinvae"].shape:
                away = abs(pictures[tool] - pictures["twinvae"])[pictures["twinvae"] > 0].mean()
                print(f"{tool}: its pictures differ by {away / 65535:.3f} on average")
            elif tool in pictures:
                print(f"{tool}: {pictures[tool].shape} instead of {pictures['twinvae'].shape}")
        for worker in workers:
            worker.stop()


if __name__ == "__main__":
    main()
