"""What N4 takes away: a planted bias field, and a tumour's own contrast.

    python benchmarks/bias.py DIR

For every *t2*.nii.gz below DIR with a *seg.nii.gz beside it: contrast of the tumour (mean inside
over mean of the rest of the brain) before and after bias_correction, and the share of a planted
smooth field that is left, for several numbers of iterations.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from twinvae.config import BiasCorrection, BrainMask, Reorient
from twinvae.imaging import ScanFiles
from twinvae.imaging.fitted_recipe import run_steps
from twinvae.imaging.scan import Working

SETTINGS = ((50, 50), (3, 3, 3, 3), (50, 50, 50), (50, 50, 50, 50))


def pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Scans with their tumour masks."""
    for mask in sorted(folder.rglob("*seg.nii.gz")):
        for scan in (*mask.parent.glob("*t2.nii.gz"), *mask.parent.glob("*t2w.nii.gz")):
            yield scan, mask


def corrected(scan: ScanFiles, iterations: tuple[int, ...]) -> Working:
    """The scan after bias_correction."""
    steps = (Reorient(), BrainMask(), BiasCorrection(iterations=iterations))
    return run_steps(scan, steps, ({}, {}, {}))


def with_field(path: Path, folder: Path) -> Path:
    """The scan times a smooth field of 0.18 (standard deviation of its logarithm), as a file."""
    image = nib.load(path)
    data = np.asarray(image.dataobj, np.float32)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in data.shape), indexing="ij")
    field = 0.45 * x + 0.3 * y * z - 0.35 * y**2 + 0.3 * z
    nib.save(nib.Nifti1Image(data * np.exp(field), image.affine), folder / "planted.nii.gz")
    return folder / "planted.nii.gz"


def contrast(image: np.ndarray, scan: Working) -> float:
    """Mean inside the tumour over mean of the rest of the brain."""
    assert scan.tumour is not None
    rest = scan.brain & ~scan.tumour
    return float(image[scan.tumour & scan.brain].mean() / image[rest].mean())


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    found = list(pairs(parser.parse_args().data))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path, mask in found:
            scan = ScanFiles("scan", path, tumour_mask=mask)
            planted = ScanFiles("planted", with_field(path, Path(folder)))
            for iterations in SETTINGS:
                plain, other = corrected(scan, iterations), corrected(planted, iterations)
                assert plain.gain is not None
                before = plain.image * plain.gain.on_grid()
                inside = plain.brain & (plain.image > 0)
                field = np.log((other.image * other.gain.on_grid())[inside] / before[inside])
                left = np.log(other.image[inside] / plain.image[inside])
                rows.append(
                    (path.name, iterations, contrast(before, plain), contrast(plain.image, plain),
                     left.std() / field.std())
                )  # fmt: skip
    for name, iterations, before, after, left in rows:
        print(f"{name:32} {iterations!s:18} contrast {before:.2f} → {after:.2f}, left {left:.0%}")
    for iterations in SETTINGS:
        mine = [row for row in rows if row[1] == iterations]
        kept = np.mean([(row[3] - 1) / (row[2] - 1) for row in mine])
        left = np.mean([row[4] for row in mine])
        print(f"mean over {len(mine)}: {iterations!s:18} contrast kept {kept:.0%}, left {left:.0%}")


if __name__ == "__main__":
    main()
