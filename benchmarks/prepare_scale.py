"""How prepare uses a machine: CPU share over many scans, peak memory of a worker, time a scan.

    python benchmarks/prepare_scale.py [--scans 100] [--jobs 2] [--preset paper] [--out FILE]

Writes generated scans of BraTS's size (240×240×155, 1 mm, skull-stripped, int16, .nii.gz), each
with a tumour mask, into a temporary folder, prepares them, and prints the figures that
docs/scale.md quotes. CPU time that other programs take on the same machine counts against it.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from measuring import row, write_part

from twinvae.cohort.manifest import manifest_table, write_manifest
from twinvae.config import load_config
from twinvae.imaging import ScanFiles, fit_recipe, prepare_cohort, prepare_scan

SHAPE = (240, 240, 155)


def write_scans(folder: Path, count: int) -> Path:
    """Noisy ellipsoids with a brain's share of the volume, the noise of each its own."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    away = sum((g / r) ** 2 for g, r in zip(grid, (0.58, 0.72, 0.9), strict=True))
    smooth = 600 + 200 * grid[0] + 150 * grid[1] * grid[2]
    tumour = (sum((g - 0.2) ** 2 for g in grid) < 0.04).astype(np.uint8)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(tumour, affine), folder / "tumour.nii.gz")
    noise = np.random.default_rng(0).integers(0, 120, SHAPE)
    rows = []
    for i in range(count):
        image = np.where(away < 1, smooth + np.roll(noise, 7 * i, 0), 0).astype(np.int16)
        nib.save(nib.Nifti1Image(image, affine), folder / f"{i:03d}.nii.gz")
        split = ("train", "val", "test")[i % 3]
        rows.append(
            {"subject": f"{i:03d}", "source": "s", "role": "mixed", "split": split,
             "image": str(folder / f"{i:03d}.nii.gz"),
             "tumour_mask": str(folder / "tumour.nii.gz")}
        )  # fmt: skip
    write_manifest(manifest_table(rows), folder / "manifest.tsv")
    return folder / "manifest.tsv"


def cpu_seconds() -> float:
    """User and system time of this process and of those it has waited for."""
    return sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def main() -> None:
    """Generate, prepare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    steps = load_config(options.preset).recipe
    with tempfile.TemporaryDirectory() as room:
        manifest = write_scans(Path(room), options.scans)
        one = ScanFiles("000", Path(room) / "000.nii.gz", tumour_mask=Path(room) / "tumour.nii.gz")
        recipe = fit_recipe(steps, [])
        times = []
        for _ in range(4):
            start = time.process_time()
            prepare_scan(one, recipe)
            times.append(time.process_time() - start)
        print(f"one scan, here: {min(times):.2f} s of one core")
        wall, cpu, busy = time.perf_counter(), cpu_seconds(), machine_busy()
        store = prepare_cohort(manifest, steps, Path(room) / "slices", jobs=options.jobs)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        others = max(0.0, machine_busy() - busy - cpu)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    free = wall * options.jobs - max(0.0, others - wall * (os.cpu_count() - options.jobs))
    print(f"{options.scans} scans, {len(store)} slices, {options.jobs} processes: {wall:.1f} s")
    print(f"CPU: {cpu:.1f} s, {cpu / wall / options.jobs:.0%} of {options.jobs} cores; "
          f"{cpu / free:.0%} of what other programs ({others:.1f} s) left")  # fmt: skip
    print(f"peak memory of a worker: {peak:.2f} GiB")
    what = f"prepare {options.scans} scans, {options.jobs} processes"
    rows = [
        row(what, "", [wall], "s", note=f"{cpu:.1f} s of the processor"),
        row(what, "of the processor time that other programs left", [100 * cpu / free], "%"),
        row(f"{what}: memory of a worker", "", [peak], "GiB"),
    ]
    write_part(options.out, rows)


def machine_busy() -> float:
    """Seconds of CPU that all programs of this machine have used since it started; Linux."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, soft = map(int, first[:7])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
