"""Human Connectome Project, young adults: the paper's healthy source.

The tree it expects (T1w images lie beside the T2w ones under the same names)::

    HCP_1200/
      100307/
        T1w/T2w_acpc_dc_restore_brain.nii.gz       1st choice: own anatomy, distortion and bias
        T1w/T2w_acpc_dc_restore.nii.gz             2nd           corrected, 0.7 mm
        T1w/brainmask_fs.nii.gz                    brain mask of both
        MNINonLinear/T2w_restore_brain.nii.gz      3rd choice: warped to the MNI brain
        MNINonLinear/T2w_restore.nii.gz            4th
        MNINonLinear/brainmask_fs.nii.gz           brain mask of both
        unprocessed/3T/T2w_SPC1/100307_3T_T2w_SPC1.nii.gz     5th: as scanned, with the head
        unprocessed/3T/T1w_MPR1/100307_3T_T1w_MPR1.nii.gz     its T1w

All scans of a contrast are of one kind: the first that at least half of the subjects have. Who
lacks it is left out with a note. Warping to MNI makes brains alike in size and shape, which
patients' brains are not, so it comes after the first two. Subject: the six digits. Sources: Glasser
et al., NeuroImage 2013; the HCP 1200 Subjects reference manual; trees quoted in public code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twinvae.cohort.layouts.scans import Scan

_SCANNERS = {"T2w": "T2w_SPC", "T1w": "T1w_MPR"}  # contrasts, and what the scanner calls them
_KINDS = {  # what, in the order of choice: the image and its brain mask below the subject's folder
    "brain": ("T1w/{c}_acpc_dc_restore_brain.nii.gz", "T1w/brainmask_fs.nii.gz"),
    "with head": ("T1w/{c}_acpc_dc_restore.nii.gz", "T1w/brainmask_fs.nii.gz"),
    "brain in MNI": ("MNINonLinear/{c}_restore_brain.nii.gz", "MNINonLinear/brainmask_fs.nii.gz"),
    "with head in MNI": ("MNINonLinear/{c}_restore.nii.gz", "MNINonLinear/brainmask_fs.nii.gz"),
    "unprocessed 1": ("unprocessed/3T/{p}1/{s}_3T_{p}1.nii.gz", ""),
    "unprocessed 2": ("unprocessed/3T/{p}2/{s}_3T_{p}2.nii.gz", ""),
}
_FILE = re.compile(
    r"/\d{6}/(?:T1w/T[12]w_acpc_dc|MNINonLinear/T[12]w_restore"
    r"|unprocessed/3T/T(?:1w_MPR|2w_SPC)\d/\d{6}_3T_)[^/]*\.nii\.gz"
)


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether folders of six digits hold files of the HCP pipelines."""
    del path
    return any(_FILE.search(file.as_posix()) for file in files)


def find(path: Path) -> list[Scan]:
    """One scan a subject and contrast; of another kind than most, its contrast says so."""
    folders = sorted(p.absolute() for p in path.glob("[0-9]" * 6) if p.is_dir())
    return [scan for contrast in _SCANNERS for scan in _of_one_kind(folders, contrast)]


def _of_one_kind(folders: Sequence[Path], contrast: str) -> list[Scan]:
    by_kind: dict[str, dict[str, Scan]] = {kind: {} for kind in _KINDS}
    for folder in folders:
        for kind in _KINDS:
            scan = _scan(folder, contrast, kind)
            if scan is not None:
                by_kind[kind][scan.subject] = scan
    any_kind = {subject: scan for found in by_kind.values() for subject, scan in found.items()}
    many = [kind for kind, found in by_kind.items() if 2 * len(found) >= len(any_kind)]
    chosen = by_kind[many[0] if many else max(by_kind, key=lambda kind: len(by_kind[kind]))]
    others = {
        subject: replace(scan, contrast=f"{contrast} {kind}")
        for kind, found in by_kind.items()
        for subject, scan in found.items()
        if subject not in chosen
    }
    return [*chosen.values(), *others.values()]


def _scan(folder: Path, contrast: str, kind: str) -> Scan | None:
    image, mask = _KINDS[kind]
    file = folder / image.format(c=contrast, p=_SCANNERS[contrast], s=folder.name)
    brain = folder / mask
    if not file.is_file():
        return None
    return Scan(
        subject=folder.name,
        contrast=contrast,
        image=str(file),
        brain_mask=str(brain) if mask and brain.is_file() else "",
    )
