"""Compare the generated cohort with real scans, and draw docs/images/phantom_*.png.

    python benchmarks/phantom_realism.py --data DIR [--out docs/images] [--subjects 40]
    python benchmarks/phantom_realism.py --data DIR --labels    # the cohort made from label maps

DIR holds BraTS patients in ``brats*/PATIENT/*t2*.nii.gz`` with ``*seg.nii.gz`` for some, and
FreeSurfer-style label maps in ``labelmaps/*.nii.gz``; with ``--labels`` also T1 and FLAIR of the
patients and volunteers with brain masks in ``ixi/*_T1.nii.gz`` at 2 mm. Everything is compared at
2 mm, outside the tumour. The figure of the comparison holds curves only, the montages generated
slices only.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from scipy import ndimage

from twinvae.cohort.phantom.brain import draw_body, sample_tissue, subject_grid
from twinvae.cohort.phantom.mni152 import load_maps
from twinvae.cohort.phantom.subject import label_map_of, make_labelled_subject, make_subject
from twinvae.config import PhantomConfig

SPACING_MM = 2.0
POSITIONS = np.linspace(0, 1, 41)
PERCENTILES = (1, 5, 25, 75, 90, 95, 99)
CONTRASTS = {"T2w": ("t2", "t2w"), "FLAIR": ("flair", "t2f"), "T1w": ("t1", "t1n")}
COLOURS = {"healthy": "tab:blue", "mixed": "tab:orange", "BraTS T2": "k", "label maps": "0.55"}


@dataclass
class Scan:
    """A T2w volume (X, Y, Z) in RAS at 2 mm, its brain and lesion masks."""

    picture: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray | None


def halve(volume):
    """Average blocks of 2×2×2 voxels."""
    x, y, z = (n // 2 * 2 for n in volume.shape)
    blocks = volume[:x, :y, :z].reshape(x // 2, 2, y // 2, 2, z // 2, 2)
    return blocks.mean(axis=(1, 3, 5))


def read_ras(path):
    image = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj).astype(np.float32)


def real_scans(data, names=("t2", "t2w")):
    scans = []
    for path in [p for name in names for p in sorted(data.glob(f"brats*/*/*{name}.nii.gz"))]:
        picture = read_ras(path)
        segmentations = list(path.parent.glob("*seg.nii.gz"))
        lesion = halve(read_ras(segmentations[0]) > 0) >= 0.5 if segmentations else None
        brain = halve(picture > 0) >= 0.5
        scans.append(Scan(halve(picture) * brain, brain, lesion))
    return scans


def generated_scans(role, count, **options):
    config = PhantomConfig(spacing_mm=SPACING_MM, **options)
    subjects = [make_subject(config, role, i) for i in range(count)]
    return [Scan(s.picture.astype(np.float32), s.brain, s.lesion) for s in subjects]


def volunteers(data, count):
    """T1w scans of IXI, which come at 2 mm with brain masks."""
    scans = []
    for path in sorted(data.glob("ixi/*_T1.nii.gz"))[:count]:
        brain = read_ras(path.with_name(path.name.replace("_T1", "_brainmask"))) > 0
        scans.append(Scan(read_ras(path) * brain, brain, None))
    return scans


def labelled_scans(data, contrast, role, count):
    """Subjects made from label maps; those of one map follow each other, which reads it once."""
    config = PhantomConfig(spacing_mm=SPACING_MM, labels=data / "labelmaps", contrast=contrast)
    order = sorted(range(count), key=lambda i: str(label_map_of(config, role, i)))
    subjects = [make_labelled_subject(config, role, i) for i in order]
    return [Scan(s.picture.astype(np.float32), s.brain, s.lesion) for s in subjects]


def area_cm2(brain):
    """Brain area at the relative positions, from the lowest slice (0) to the highest (1)."""
    area = brain.sum(axis=(0, 1)) * SPACING_MM**2 / 100
    slices = np.flatnonzero(area)
    return np.interp(
        POSITIONS, np.linspace(0, 1, np.ptp(slices) + 1), area[slices[0] : slices[-1] + 1]
    )


def healthy_signal(scan):
    """Signal of brain voxels away from the lesion, relative to their median."""
    keep = scan.brain.copy()
    if scan.lesion is not None:
        keep &= ~ndimage.binary_dilation(scan.lesion, iterations=2)
    values = scan.picture[keep]
    return values / np.median(values)


def spectrum(scan):
    """Radial power spectrum of central axial slices, relative to its total."""
    slices = np.flatnonzero(scan.brain.any(axis=(0, 1)))
    middle = slices[int(len(slices) * 0.55)]
    total = np.zeros(32)
    for z in range(middle - 4, middle + 5, 2):
        square = np.zeros((96, 96))
        x, y = (np.flatnonzero(scan.brain[:, :, z].any(axis=a)) for a in (1, 0))
        cut = scan.picture[x[0] : x[-1] + 1, y[0] : y[-1] + 1, z]
        square[: cut.shape[0], : cut.shape[1]] = cut[:96, :96]
        power = np.abs(np.fft.fftshift(np.fft.fft2(square - square.mean() * (square > 0)))) ** 2
        radius = np.hypot(*np.meshgrid(np.arange(96) - 48, np.arange(96) - 48, indexing="ij"))
        total += ndimage.mean(power, np.floor(radius * 32 / 48).astype(int), np.arange(32))
    return total / total.sum()


def label_volumes(data):
    """Ventricles (mL) and brain area along z of the label maps."""
    ventricles, areas = [], []
    for path in sorted((data / "labelmaps").glob("*.nii.gz")):
        labels = read_ras(path).astype(int)
        ventricles.append(np.isin(labels, (4, 5, 14, 43, 44)).sum() / 1000)
        solid = ((labels > 0) & (labels <= 60) | np.isin(labels, (77, 85))) & (labels != 24)
        areas.append(area_cm2(halve(ndimage.binary_closing(solid, iterations=3)) >= 0.5))
    return np.array(ventricles), np.array(areas)


def generated_ventricles(older, count):
    """Ventricle volumes (mL): deep CSF near that of the template."""
    maps, grid, volumes = load_maps(), subject_grid(SPACING_MM), []
    for i in range(count):
        rng = np.random.default_rng(i)
        body = draw_body(rng, older=older)
        tissue = sample_tissue(rng, body, grid, maps)
        volume = np.zeros(grid.shape, dtype=bool)
        x, y, z = tissue.place_mm
        deep = (abs(x) < 42) & (y > -62) & (y < 42) & (z > -12) & (z < 36)
        cistern = (abs(x) < 14) & (y < -34)
        volume[tissue.inside] = deep & ~cistern & (tissue.shares[2] > 0.5)
        labels, n = ndimage.label(volume)
        sizes = ndimage.sum_labels(volume, labels, np.arange(1, n + 1)) * SPACING_MM**3 / 1000
        volumes.append(sizes[sizes > 1].sum())
    return np.array(volumes)


def span(values, digits=2):
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def print_numbers(groups):
    print("\nmedian (10th–90th percentile)\n")
    print("| | " + " | ".join(groups) + " |\n|---|" + "---|" * len(groups))
    rows = {
        "brain volume, mL": lambda s: s.brain.sum() * SPACING_MM**3 / 1000,
        "length x, mm": lambda s: np.ptp(np.flatnonzero(s.brain.any((1, 2)))) * SPACING_MM,
        "length y, mm": lambda s: np.ptp(np.flatnonzero(s.brain.any((0, 2)))) * SPACING_MM,
        "length z, mm": lambda s: np.ptp(np.flatnonzero(s.brain.any((0, 1)))) * SPACING_MM,
        "largest area, cm²": lambda s: area_cm2(s.brain).max(),
        "bright share (> 2.2 medians)": lambda s: (healthy_signal(s) > 2.2).mean(),
    }
    for p in PERCENTILES:
        rows[f"signal, p{p} / median"] = lambda s, p=p: np.percentile(healthy_signal(s), p)
    for name, f in rows.items():
        digits = 2 if "signal" in name or "share" in name else 0
        print(
            f"| {name} | "
            + " | ".join(span([f(s) for s in g], digits) for g in groups.values())
            + " |"
        )
    print_lesions(groups)


def print_lesions(groups):
    for name, scans in groups.items():
        with_lesion = [s for s in scans if s.lesion is not None and s.lesion.any()]
        if with_lesion:
            mm = [np.cbrt(6 / np.pi * s.lesion.sum()) * SPACING_MM for s in with_lesion]
            inside = [
                np.percentile(s.picture[s.lesion], [10, 50, 90])
                / np.median(s.picture[s.brain & ~s.lesion])
                for s in with_lesion
            ]
            print(f"\nlesions, {name} (n = {len(mm)}): diameter, mm {span(mm, 0)}; signal / median")
            for q, row in zip((10, 50, 90), np.array(inside).T, strict=True):
                print(f"  p{q} inside: {span(row)}")


def draw_comparison(groups, label_areas, ventricles, path):
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    areas = {name: np.array([area_cm2(s.brain) for s in g]) for name, g in groups.items()}
    areas["label maps"] = label_areas
    bins = np.linspace(0, 5, 101)
    signal = {
        n: np.array([np.histogram(healthy_signal(s), bins, density=True)[0] for s in g])
        for n, g in groups.items()
    }
    power = {n: np.array([spectrum(s) for s in g]) for n, g in groups.items()}
    cycles = (np.arange(32) + 0.5) / 32 * 0.25
    panels = [
        (axes[0, 0], POSITIONS, areas, "relative position (0 lowest slice)", "brain area, cm²"),
        (axes[0, 1], (bins[1:] + bins[:-1]) / 2, signal, "T2w signal / median", "density"),
        (axes[1, 0], cycles, power, "spatial frequency, cycles/mm", "share of power"),
    ]
    for axis, x, curves, xlabel, ylabel in panels:
        for name, rows in curves.items():
            low, middle, high = np.percentile(rows, [10, 50, 90], axis=0)
            axis.plot(x, middle, color=COLOURS[name], label=f"{name} (n = {len(rows)})")
            axis.fill_between(x, low, high, color=COLOURS[name], alpha=0.15, lw=0)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        axis.legend(fontsize=8)
    axes[0, 1].set_yscale("log")
    axes[0, 1].set_ylim(1e-3, 3)
    axes[1, 0].set_yscale("log")
    for row, (name, values) in enumerate(ventricles.items()):
        axes[1, 1].scatter(
            values, row + np.linspace(-0.2, 0.2, len(values)), s=12, color=COLOURS[name]
        )
    axes[1, 1].set(xlabel="ventricles, mL", yticks=range(len(ventricles)))
    axes[1, 1].set_yticklabels(list(ventricles))
    figure.suptitle("Generated cohort against real scans: median and 10th–90th percentile")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def picture_of(volume, brain, z):
    """Slice z in a field of 180×200 mm around the brain's centre."""
    wide = np.pad(volume[:, :, z], 60)
    x, y = (round(c) + 60 for c in ndimage.center_of_mass(brain)[:2])
    return wide[x - 44 : x + 44, y - 50 : y + 50].T


def montage(rows, path, positions=(0.2, 0.35, 0.45, 0.55, 0.65, 0.8), outline=True):
    """One row a scan; where it has a lesion, the last picture is its largest slice, outlined."""
    columns = len(positions) + 1
    size = (1.5 * columns, 1.75 * len(rows))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False, facecolor="k")
    for line, (name, scan) in zip(axes, rows, strict=True):
        zs = np.flatnonzero(scan.brain.any((0, 1)))
        chosen = [zs[0] + int(q * (zs[-1] - zs[0])) for q in positions]
        if scan.lesion is not None and scan.lesion.any():
            chosen.append(int(scan.lesion.sum((0, 1)).argmax()))
        top = np.percentile(scan.picture[scan.brain], 99.5)
        for axis in line:
            axis.axis("off")
        for axis, z in zip(line, chosen, strict=False):
            axis.imshow(
                picture_of(scan.picture, scan.brain, z),
                cmap="gray",
                origin="lower",
                vmin=0,
                vmax=top,
            )
            if outline and len(chosen) == columns and z == chosen[-1] and axis is line[-1]:
                axis.contour(
                    picture_of(scan.lesion, scan.brain, z), [0.5], colors="r", linewidths=0.7
                )
        line[0].set_title(name, color="w", fontsize=8)
    figure.subplots_adjust(0, 0, 1, 0.97, 0.01, 0.08)
    figure.savefig(path, dpi=75)
    plt.close(figure)


def compare_labelled(data, out, count):
    """A table for each contrast, and one figure of generated slices."""
    rows = []
    for contrast, names in CONTRASTS.items():
        groups = {
            f"healthy {contrast}": labelled_scans(data, contrast, "healthy", count),
            f"mixed {contrast}": labelled_scans(data, contrast, "mixed", count),
            f"BraTS {contrast}": real_scans(data, names),
        }
        if contrast == "T1w":
            groups["IXI T1w"] = volunteers(data, count)
        print_numbers(groups)
        healthy, mixed, *_ = groups.values()
        sick = sorted((s for s in mixed if s.lesion.any()), key=lambda s: s.lesion.sum())
        rows += [(f"healthy {contrast}", s) for s in healthy[::10][:2]]
        rows.append((f"mixed {contrast}", sick[2 * len(sick) // 3]))
    montage(rows, out / "phantom_labels.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--side-by-side", type=Path, help="real beside generated; do not publish")
    parser.add_argument("--labels", action="store_true", help="the cohort made from label maps")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.labels:
        compare_labelled(given.data, given.out, given.subjects)
        return
    groups = {
        "healthy": generated_scans("healthy", given.subjects),
        "mixed": generated_scans("mixed", given.subjects),
        "BraTS T2": real_scans(given.data),
    }
    label_ventricles, label_areas = label_volumes(given.data)
    ventricles = {
        "healthy": generated_ventricles(False, given.subjects),
        "mixed": generated_ventricles(True, given.subjects),
        "label maps": label_ventricles,
    }
    print_numbers(groups)
    for name, values in ventricles.items():
        print(f"\nventricles, mL, {name}: {span(values, 0)}")
    draw_comparison(groups, label_areas, ventricles, given.out / "phantom_realism.png")
    sick = [s for s in groups["mixed"] if s.lesion.any()]
    generated = [("healthy source", s) for s in groups["healthy"][:3]]
    by_size = sorted(sick, key=lambda s: s.lesion.sum())
    generated += [("mixed source", s) for s in by_size[3 :: max(len(sick) // 6, 1)][:6]]
    montage(generated, given.out / "phantom_examples.png")
    if given.side_by_side:
        mixed = [row for pair in zip(groups["BraTS T2"], sick, strict=False) for row in pair]
        montage([("", s) for s in mixed], given.side_by_side)


if __name__ == "__main__":
    main()
