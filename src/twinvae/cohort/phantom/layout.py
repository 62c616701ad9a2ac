"""Generated subjects as BIDS files, written atomically and with reproducible bytes."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import numpy.typing as npt

from twinvae import __version__
from twinvae.cohort.phantom.subject import Subject
from twinvae.config import PhantomContrast
from twinvae.files import atomic_path, write_json, write_text
from twinvae.vocabulary import Role

_LETTER = {"healthy": "H", "mixed": "M"}
MASKS = Path("derivatives", "masks")


def subject_id(role: Role, index: int) -> str:
    """``sub-H001`` for the first healthy subject."""
    return f"sub-{_LETTER[role]}{index + 1:03d}"


def subject_files(root: Path, role: Role, index: int, contrast: PhantomContrast) -> dict[str, Path]:
    """Paths of a subject's ``image``, ``brain`` and, in the mixed source, ``lesion`` mask."""
    name = subject_id(role, index)
    files = {
        "image": root / name / "anat" / f"{name}_{contrast}.nii.gz",
        "brain": root / MASKS / name / "anat" / f"{name}_label-brain_mask.nii.gz",
    }
    if role == "mixed":
        files["lesion"] = root / MASKS / name / "anat" / f"{name}_label-lesion_mask.nii.gz"
    return files


def own_subjects(root: Path, role: Role, first: int = 0) -> list[Path]:
    """Files in ``root`` of subjects from number ``first`` on, of any contrast, and no others."""
    found: list[Path] = []
    named = (path.name for place in (root, root / MASKS) for path in place.glob("sub-*"))
    for name in sorted(set(named)):
        number = re.fullmatch(rf"sub-{_LETTER[role]}(\d+)", name)
        if number and int(number[1]) > first:
            index = int(number[1]) - 1
            for contrast in get_args(PhantomContrast):
                found += subject_files(root, role, index, contrast).values()
    return [path for path in dict.fromkeys(found) if path.is_file()]


def write_subject(files: dict[str, Path], subject: Subject) -> None:
    """Write a subject's ``subject_files``; the image comes last."""
    for key in ("brain", "lesion"):
        if key in files:
            _write_nifti(files[key], getattr(subject, key).astype(np.uint8), subject.affine)
    _write_nifti(files["image"], subject.picture, subject.affine)


def lesion_mm3(mask: Path) -> float:
    """Volume of a written lesion mask in mm³."""
    image = nib.Nifti1Image.from_filename(mask)
    voxel_mm3 = abs(float(np.linalg.det(image.affine[:3, :3])))
    return float(np.count_nonzero(np.asarray(image.dataobj)) * voxel_mm3)


def write_dataset(
    root: Path, role: Role, contrast: PhantomContrast, rows: list[dict[str, str]]
) -> None:
    """Write the descriptions of a data set and of its masks, and ``participants``."""
    maker = [{"Name": "twinvae phantom", "Version": __version__}]
    about = {"BIDSVersion": "1.9.0", "GeneratedBy": maker}
    name = f"Generated {contrast} brains, {role} source"
    write_json(root / "dataset_description.json", {"Name": name, "DatasetType": "raw"} | about)
    write_json(
        root / MASKS / "dataset_description.json",
        {"Name": f"{name}: masks", "DatasetType": "derivative"} | about,
    )
    columns = list(rows[0])
    lines = ["\t".join(columns), *("\t".join(row[c] for c in columns) for row in rows)]
    write_text(root / "participants.tsv", "\n".join(lines) + "\n")
    write_json(root / "participants.json", {c: _COLUMNS[c] for c in columns if c in _COLUMNS})


_COLUMNS: dict[str, Any] = {
    "age": {"Description": "Age the anatomy was drawn for", "Units": "years"},
    "label_map": {"Description": "Name of the label map the anatomy was made from"},
    "tumour": {"Description": "Whether a lesion was drawn", "Levels": {"yes": "", "no": ""}},
    "tumour_mm3": {"Description": "Volume of the lesion mask", "Units": "mm^3"},
    "tumour_diameter_mm": {
        "Description": "Diameter of the sphere with the volume of the lesion mask",
        "Units": "mm",
    },
}


def _write_nifti(path: Path, data: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    image: Any = nib.Nifti1Image(data, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=2)
    image.set_sform(affine, code=2)
    # mtime 0 keeps the bytes the same from run to run; level 1 halves the time of writing.
    packed = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed)
