"""A manifest of six small scans, and what a folder holds."""

import hashlib

from small_brain import make_brain, save

from twinvae.cohort import write_manifest
from twinvae.cohort.manifest import manifest_table


def write_six(folder):
    """Six scans of one source, the first three healthy; the fourth has no tumour mask."""
    rows = []
    for i, split in enumerate(["train", "val", "test"] * 2):
        brain, place = make_brain(i), folder / "scans" / str(i)
        row = {"subject": f"{i:03d}", "source": "s", "split": split}
        row["role"] = "healthy" if i < 3 else "mixed"
        row["image"] = str(save(place / "image.nii.gz", brain.image, brain.affine))
        row["brain_mask"] = str(save(place / "brain.nii.gz", brain.mask, brain.affine, "u1"))
        if i > 3:
            mask = save(place / "tumour.nii.gz", brain.tumour, brain.affine, "u1")
            row["tumour_mask"] = str(mask)
        rows.append(row)
    write_manifest(manifest_table(rows), folder / "manifest.tsv")
    return folder / "manifest.tsv"


def break_scan(folder, number):
    path = folder / "scans" / str(number) / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:300])


def digests(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
