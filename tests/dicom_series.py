"""A scan of the tiny run as a DICOM series of a patient whose name tells."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom_files import classic, enhanced, uid
from twinvae.detection.detect import detect_scans
from twinvae.runs.folder import Run

WHO = {
    "PatientName": "Zwiebelkuchen^Kunigunde",
    "PatientID": "MRN-0815-X",
    "PatientBirthDate": "19340517",
    "PatientSex": "F",
    "AccessionNumber": "ACC4711",
    "StudyID": "77",
    "StudyDate": "20240131",
    "FrameOfReferenceUID": uid("frame of reference"),
}


def _turned(affine: np.ndarray) -> np.ndarray:
    """Oblique: ten degrees about x, then five about z, and elsewhere."""
    a, b = np.radians((10.0, 5.0))
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_z = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
    turn = np.eye(4)
    turn[:3, :3] = np.array(about_z) @ np.array(about_x)
    return turn @ affine


def series_of(kind: str, scan: Path, folder: Path, **more: object) -> Path:
    """The scan as DICOM: its voxels stay in place but for ``oblique``, which turns the head."""
    image = nib.load(scan)
    data, affine = np.asarray(image.dataobj).astype(np.int16), image.affine
    if kind == "oblique":
        affine = _turned(affine)
    if kind == "reversed":  # slices from the top down, columns from the back forwards
        affine = affine @ np.diag([1.0, -1, -1, 1])
        affine[:3, 3] = image.affine[:3, 3] + image.affine[:3, 1:3] @ (np.array(data.shape[1:]) - 1)
        data = data[:, ::-1, ::-1]
    if kind == "coronal":
        data, affine = data.transpose(0, 2, 1)[:, ::-1], affine[:, [0, 2, 1, 3]]
        affine = affine @ np.array(
            [[1.0, 0, 0, 0], [0, -1, 0, data.shape[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]]
        )
    values = WHO | more
    if kind == "flipped":  # dark becomes bright, as from T2w to T1w
        data = np.where(data > 0, data.max() + 1 - data, 0).astype(np.int16)
    if kind == "enhanced":
        return enhanced(folder / "all.dcm", data, affine, **values)
    return classic(folder, data, affine, **values)


@pytest.fixture(scope="session")
def abnormal_scan(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's scan that is called abnormal with most abnormal slices."""
    scans = sorted((tiny_run.folder / "cohort/mixed").glob("sub-*/anat/*_T2w.nii.gz"))[:6]
    out = tmp_path_factory.mktemp("looked")
    found = detect_scans(tiny_run.bundle, scans, out, force=True, threads=1)
    best = max(found, key=lambda one: (one.verdict.abnormal, int(one.slices["abnormal"].sum())))
    assert best.verdict.abnormal
    return best.image
