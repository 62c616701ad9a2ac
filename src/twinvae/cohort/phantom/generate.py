"""A generated cohort: two BIDS data sets, ``healthy`` and ``mixed``, from one seed.

Files are written atomically, with reproducible bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import numpy.typing as npt

from twinvae import __version__
from twinvae.cohort.phantom.labels import label_maps
from twinvae.cohort.phantom.subject import (
    Subject,
    body_of,
    has_tumour,
    label_map_of,
    labelled_body,
    make_labelled_subject,
    make_subject,
)
from twinvae.config import PhantomConfig, PhantomContrast
from twinvae.errors import StageError
from twinvae.files import atomic_path, read_json, write_json, write_text
from twinvae.outputs import claim, locked, remove
from twinvae.parallel import cores, end_with_parent
from twinvae.progress import progress_bar
from twinvae.vocabulary import ROLES, Role

# Raise this whenever the generator's voxels change, so that folders made before are made anew.
GENERATOR_VERSION = 3
LABELLED_VERSION = 2
_STAMP = "phantom.json"


def generate_cohort(out: Path, options: PhantomConfig, *, jobs: int | None = None) -> None:
    """Write ``options.healthy`` and ``options.mixed`` subjects to ``out/healthy``, ``out/mixed``.

    Subjects already complete in ``out`` are kept when they were made with the same seed, voxel
    size, share of tumours, contrast and label maps; other generated ones are removed, and nothing
    else is. The bytes do not depend on ``jobs``, the number of processes (by default one per core).
    Raises ``OutputError`` when ``out`` holds anything but a generated cohort.
    """
    out = Path(out)
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, found {jobs}")
    claim(out, "generated cohort", [] if options.labels is None else [options.labels])
    with locked(out):
        _generate_all(out, options, jobs)


def _generate_all(out: Path, options: PhantomConfig, jobs: int | None) -> None:
    _start(out, options)
    todo = [
        (role, index)
        for role in ROLES
        for index in range(getattr(options, role))
        if not all(p.is_file() for p in _files(out, options, role, index).values())
    ]
    if options.labels is not None:  # a process then reads each label map once
        todo.sort(key=lambda subject: label_map_of(options, *subject))
    with progress_bar("phantom", total=len(todo)) as bar:
        for role, index in _run(out, options, todo, jobs or cores()):
            bar.note(subject_id(role, index))
            bar.advance()
    for role in ROLES:
        # Subjects of an earlier, larger cohort of the same options.
        remove(out / role, own_subjects(out / role, role, getattr(options, role)))
        write_dataset(out / role, role, options.contrast, _participants(out, role, options))


def _start(out: Path, options: PhantomConfig) -> None:
    """Make sure that what is in ``out`` was made with the same options."""
    stamp = _stamp(options)
    path = out / _STAMP
    if path.is_file() and read_json(path) == stamp:
        return
    for role in ROLES:
        remove(out / role, own_subjects(out / role, role))
    write_json(path, stamp)


def _stamp(options: PhantomConfig) -> dict[str, Any]:
    """What decides the voxels of a subject."""
    stamp: dict[str, Any] = {
        "generator": GENERATOR_VERSION,
        "seed": options.seed,
        "spacing_mm": options.spacing_mm,
        "tumour_share": options.tumour_share,
    }
    if options.labels is not None:
        sums = {p.name: hashlib.sha256(p.read_bytes()) for p in label_maps(options.labels)}
        stamp["labels"] = {name: found.hexdigest()[:16] for name, found in sums.items()}
        stamp |= {"generator": LABELLED_VERSION, "contrast": options.contrast}
    return stamp


def _run(
    out: Path, options: PhantomConfig, todo: list[tuple[Role, int]], jobs: int
) -> Iterator[tuple[Role, int]]:
    """Generate the subjects of ``todo``, yielding each as it is done."""
    if jobs == 1 or len(todo) < 4:
        for role, index in todo:
            _generate(out, options, role, index)
            yield role, index
        return
    # Spawned, not forked: the parent may hold torch's threads, which a fork would break.
    context = multiprocessing.get_context("spawn")
    workers = min(jobs, len(todo))
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        futures = {
            pool.submit(_generate, out, options, role, index): (role, index) for role, index in todo
        }
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool:
            raise StageError(
                "phantom: a process died, perhaps for lack of memory; run it again to go on where "
                "it stopped, with fewer jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _generate(out: Path, options: PhantomConfig, role: Role, index: int) -> None:
    make: Callable[[PhantomConfig, Role, int], Subject]
    make = make_subject if options.labels is None else make_labelled_subject
    write_subject(_files(out, options, role, index), make(options, role, index))


def _files(out: Path, options: PhantomConfig, role: Role, index: int) -> dict[str, Path]:
    return subject_files(out / role, role, index, options.contrast)


def _participants(out: Path, role: Role, options: PhantomConfig) -> list[dict[str, str]]:
    rows = []
    for index in range(getattr(options, role)):
        body = (body_of if options.labels is None else labelled_body)(options, role, index)
        row = {"participant_id": subject_id(role, index), "age": str(body.age)}
        if options.labels is not None:
            row["label_map"] = label_map_of(options, role, index).name
        if role == "mixed":
            tumour = has_tumour(options, index)
            mm3 = lesion_mm3(_files(out, options, role, index)["lesion"]) if tumour else 0.0
            diameter = f"{np.cbrt(6 * mm3 / np.pi):.1f}" if tumour else "n/a"
            row |= {"tumour": "yes" if tumour else "no", "tumour_mm3": f"{mm3:g}"}
            row["tumour_diameter_mm"] = diameter
        rows.append(row)
    return rows


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
