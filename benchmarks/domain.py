"""Which scans a bundle judges and which it calls out of domain: real scans, and changed ones.

    python benchmarks/domain.py DATA [--out runs/domain] [--healthy 40] [--epochs 1]

DATA holds ``labelmaps`` (FreeSurfer-style segmentations), ``brats2021`` and ``brats2023`` (T1, T2
and FLAIR, as those projects name their files) and perhaps ``ixi`` (T1 with brain masks). For each
contrast brains are generated from the label maps and a bundle is trained on them with preset
``demo``; the check does not look at what the networks make of a scan, so that one epoch is enough.
Every scan is then prepared by each bundle's recipe and compared with its healthy validation scans
as ``twinvae detect`` does. The limits know generated healthy brains alone; no tumour mask is read.

Prints, and writes to ``OUT/domain.tsv``, one row a scan and bundle with the farthest statistic.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from twinvae.cohort import index_sources
from twinvae.config import SourceConfig, SplitConfig, load_config
from twinvae.decision.domain import distances, outside, scan_facts
from twinvae.detection.bundle import Bundle, read_bundle
from twinvae.errors import DataError
from twinvae.imaging import ScanFiles, prepare_scan
from twinvae.runs.folder import Run
from twinvae.runs.stages import run_stage, run_stages

CONTRASTS = ("T2w", "FLAIR", "T1w")
SEED = 0


def make_bundle(out: Path, labels: Path, contrast: str, healthy: int, epochs: int) -> Bundle:
    """Generate, train and calibrate; what is there already is kept."""
    phantom = {"healthy": healthy, "mixed": 6, "seed": 1, "labels": str(labels.resolve())}
    config = load_config(
        "demo",
        {
            "name": f"domain-{contrast}",
            "contrast": contrast,
            "cohort.phantom": {**phantom, "contrast": contrast},
            "cohort.split": {"train": 0.6, "val": 0.25, "test": 0.15},
            "training.healthy.epochs": epochs,
            "training.mixed.epochs": epochs,
        },
    )
    run = Run.create(config, out / contrast)
    run_stages(run, until="score")
    run_stage(run, "calibrate", force=True)  # the bundle is of the present code, kept run or not
    return read_bundle(run.bundle)


def real_scans(data: Path, contrast: str) -> list[ScanFiles]:
    """The patients' scans of one contrast, and for T1w the volunteers'."""
    found = []
    for name, role in (("brats2021", "mixed"), ("brats2023", "mixed"), ("ixi", "healthy")):
        if (data / name).is_dir() and (name != "ixi" or contrast == "T1w"):
            source = SourceConfig(path=data / name, role=role)
            table = index_sources([source], contrast, SplitConfig())
            found += [ScanFiles.from_row({**row, "tumour_mask": ""}) for _, row in table.iterrows()]
    return found


def changed(scan: ScanFiles, room: Path) -> Iterator[tuple[str, ScanFiles]]:
    """The scan turned, cut, thick, and replaced by noise."""
    image = nib.load(scan.image)
    voxels = np.asarray(image.dataobj, np.float32)
    axes = nib.io_orientation(image.affine)
    up = int(np.flatnonzero(axes[:, 0] == 2)[0])  # the file's axis from feet to head or back
    front = int(np.flatnonzero(axes[:, 0] == 1)[0])
    brain = voxels != 0
    lines = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != up)))
    middle, upwards = (int(lines[0]) + int(lines[-1])) // 2, axes[up, 1] > 0
    top, bottom = [slice(None)] * 3, [slice(None)] * 3
    top[up] = slice(middle, None) if upwards else slice(None, middle)
    bottom[up] = slice(None, middle) if upwards else slice(middle, None)
    rng = np.random.default_rng(SEED)
    no_top, no_bottom = voxels.copy(), voxels.copy()
    no_top[tuple(top)] = no_bottom[tuple(bottom)] = 0
    made = {
        "upside down": np.flip(voxels, up),
        "upside down, back to front": np.flip(voxels, (up, front)),
        "without its top half": no_top,
        "without its bottom half": no_bottom,
        "noise, outline of the brain": np.where(brain, rng.uniform(1, 1000, voxels.shape), 0),
        "smooth noise, outline of the brain": np.where(brain, smooth_noise(voxels.shape), 0),
        "noise in a ball": np.where(ball(voxels.shape), rng.uniform(1, 1000, voxels.shape), 0),
    }
    for how, values in made.items():
        yield how, written(values, image.affine, room / "changed.nii", scan)
    side = float(np.linalg.norm(image.affine[:3, up]))
    yield "slices of 5 mm", thick(voxels, image.affine, up, round(5 / side), room, scan)


def thick(
    voxels: np.ndarray, affine: np.ndarray, axis: int, many: int, room: Path, scan: ScanFiles
) -> ScanFiles:
    """``many`` slices averaged to one, where all of them are brain."""
    moved = np.moveaxis(voxels, axis, -1)
    count = moved.shape[-1] // many
    groups = moved[..., : count * many].reshape(*moved.shape[:-1], count, many)
    means = np.where((groups != 0).mean(-1) >= 0.5, groups.mean(-1), 0)
    affine = affine.copy()
    affine[:3, axis] *= many
    return written(np.moveaxis(means, -1, axis), affine, room / "thick.nii", scan)


def smooth_noise(shape: tuple[int, ...]) -> np.ndarray:
    """Blobs of about 1 cm, log-normal."""
    blurred = ndimage.gaussian_filter(np.random.default_rng(SEED).normal(size=shape), 4)
    return np.exp(blurred / blurred.std() * 0.5)


def ball(shape: tuple[int, ...]) -> np.ndarray:
    """An ellipsoid of a brain's size around the grid's middle, in voxels of 1 mm."""
    away = (np.indices(shape).T - np.array(shape) / 2) / (68, 85, 66)
    return (away**2).sum(-1).T < 1


def foot(room: Path) -> ScanFiles:
    """SYNTHETIC: a foot and ankle of ellipsoids: skin, muscle, fat, heel, ankle, long bones."""
    rng = np.random.default_rng(SEED)
    x, y, z = np.meshgrid(*(np.arange(n) - n / 2 for n in (120, 270, 180)), indexing="ij")

    def body(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        parts = zip((x, y, z), centre, radii, strict=True)
        return sum(((axis - c) / r) ** 2 for axis, c, r in parts) < 1

    flesh = body((0, 10, -50), (42, 120, 32)) | body((0, -70, 10), (36, 42, 90))
    values = np.where(flesh, 320.0, 0.0)
    values[flesh & body((0, 20, -72), (38, 110, 12))] = 700  # the fat of the sole
    bones = [
        ((0, -85, -48), (22, 34, 22)),
        ((0, -60, -15), (20, 26, 18)),
        ((0, -65, 55), (13, 15, 60)),
    ]
    bones += [((side * 13.0, 55, -52), (5, 55, 6)) for side in (-2, -1, 0, 1, 2)]
    for centre, radii in bones:
        values[flesh & body(centre, tuple(r + 2 for r in radii))] = 60  # cortical bone
        values[flesh & body(centre, radii)] = 620  # marrow
    values = np.where(flesh, np.maximum(values + rng.normal(0, 25, values.shape), 1), 0)
    return written(values, np.eye(4), room / "foot.nii", ScanFiles("foot", room / "foot"))


def written(values: np.ndarray, affine: np.ndarray, path: Path, scan: ScanFiles) -> ScanFiles:
    """The voxels as a file, and who they are of."""
    nib.save(nib.Nifti1Image(np.ascontiguousarray(values, np.float32), affine), path)
    return ScanFiles(scan.subject, path)


def compared(bundle: Bundle, scan: ScanFiles) -> dict[str, Any]:
    """Whether the bundle judges the scan, and its farthest statistic."""
    try:
        prepared = prepare_scan(scan, bundle.recipe)
    except DataError as error:
        return {"judged": False, "statistic": "not prepared", "why": str(error)}
    facts = scan_facts(prepared.images, prepared.brain, prepared.statistics)
    away = distances(bundle.domain, facts)
    found = outside(bundle.domain, facts)
    name = found[0].statistic if found else max(away, key=lambda one: abs(away[one]))
    entry = bundle.domain["statistics"][name]
    limits = {"value": facts[name], "healthy_low": entry["low"], "healthy_high": entry["high"]}
    named = {"statistic": name, "z": away[name], **limits}
    return {"judged": not found, **named, "why": "; ".join(str(one) for one in found)}


def rows_of(data: Path, bundles: dict[str, Bundle], room: Path) -> Iterator[dict[str, Any]]:
    """One row for each scan and bundle."""
    for contrast in CONTRASTS:
        for scan in real_scans(data, contrast):
            kind = "volunteer" if scan.role == "healthy" else "patient"
            for name, bundle in bundles.items():
                about = {"bundle": name, "contrast": contrast, "scan": kind, "of": scan.subject}
                yield {**about, **compared(bundle, scan)}
            if kind == "patient":
                for how, other in changed(scan, room):
                    about = {"bundle": contrast, "contrast": contrast, "scan": how}
                    yield {**about, "of": scan.subject, **compared(bundles[contrast], other)}
    for name, bundle in bundles.items():
        about = {"bundle": name, "contrast": "", "scan": "synthetic foot", "of": "foot"}
        yield {**about, **compared(bundle, foot(room))}


def main() -> None:
    """Make the bundles, compare, print a table of groups and write one of scans."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/domain"))
    parser.add_argument("--healthy", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bundles = {
        c: make_bundle(options.out, options.data / "labelmaps", c, options.healthy, options.epochs)
        for c in CONTRASTS
    }
    with tempfile.TemporaryDirectory() as room:
        table = pd.DataFrame(rows_of(options.data, bundles, Path(room)))
    table.round(4).to_csv(options.out / "domain.tsv", sep="\t", index=False)
    for (bundle, contrast, scan), group in table.groupby(
        ["bundle", "contrast", "scan"], sort=False
    ):
        far, judged = group["z"].abs(), int(group["judged"].sum())
        print(
            f"{bundle:6} {contrast:6} {scan:28} {judged:3} of {len(group):3} judged   farthest |z| "
            f"{far.min():5.1f} to {far.max():5.1f}   {', '.join(sorted(set(group['statistic'])))}"
        )


if __name__ == "__main__":
    main()
