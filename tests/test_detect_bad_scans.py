"""Detection: clear words for scans and masks that cannot be used, and nothing written of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from twinvae.detection.detect import detect_scans
from twinvae.errors import ConfigError, DataError, PartialFailureError
from twinvae.runs.folder import Run


def test_one_broken_scan_is_skipped_and_the_others_are_judged(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(tiny_scan.read_bytes()[:500])
    with pytest.raises(PartialFailureError, match=r"1 of 2 scans skipped[\s\S]*broken\.nii\.gz"):
        detect_scans(tiny_run.bundle, [broken, tiny_scan], tmp_path / "out", threads=1)
    assert (tmp_path / "out" / tiny_scan.name.split(".")[0] / "verdict.json").is_file()
    assert not (tmp_path / "out" / "broken").exists()
    with pytest.raises(DataError, match=r"broken\.nii\.gz"):
        detect_scans(tiny_run.bundle, [broken], tmp_path / "none", threads=1)
    with pytest.raises(DataError, match=r"broken\.nii\.gz"):
        detect_scans(tiny_run.bundle, [broken, tiny_scan], tmp_path / "s", strict=True, threads=1)
    assert not (tmp_path / "s").exists()


def _volume(scan: Path) -> nibabel.Nifti1Image:
    return nibabel.load(scan)


def _save(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def _bad_scan(kind: str, scan: Path, folder: Path) -> Path:
    data, affine = np.asarray(_volume(scan).dataobj, np.float32), _volume(scan).affine
    path = folder / "bad.nii.gz"
    if kind == "missing":
        return folder / "missing.nii.gz"
    if kind == "truncated":
        path.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])
    elif kind == "not gzip":
        path.write_bytes(b"not a scan at all")
    elif kind == "4-D":
        _save(path, np.stack([data, data], -1), affine)
    elif kind == "NaN":
        data[10, 10, 10] = np.nan
        _save(path, data, affine)
    elif kind == "black":
        _save(path, np.zeros_like(data), affine)
    elif kind == "affine":
        _save(path, data, affine)
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[280:328] = bytes(48)  # srow_x, srow_y, srow_z of the NIfTI-1 header
        path.write_bytes(gzip.compress(bytes(raw)))
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("truncated", "bad.nii.gz"),
        ("not gzip", "bad.nii.gz"),
        ("4-D", "3-D"),
        ("NaN", "finite"),
        ("black", "bad.nii.gz"),
        ("affine", "affine"),
    ],
)
def test_bad_scan_is_named_and_nothing_is_written(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path, kind: str, says: str
) -> None:
    bad = _bad_scan(kind, tiny_scan, tmp_path)
    with pytest.raises(DataError, match=says):
        detect_scans(tiny_run.bundle, [bad], tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["empty", "other shape"])
def test_bad_brain_mask_is_named(tiny_run: Run, tiny_scan: Path, tmp_path: Path, kind: str) -> None:
    shape = _volume(tiny_scan).shape
    data = np.zeros(shape if kind == "empty" else (5, 5, 5), np.uint8)
    data[2, 2, 2] = kind != "empty"
    mask = _save(tmp_path / "mask.nii.gz", data, _volume(tiny_scan).affine)
    with pytest.raises(DataError, match=r"mask\.nii\.gz"):
        detect_scans(tiny_run.bundle, [tiny_scan], tmp_path / "out", brain_masks=[mask], threads=1)
    with pytest.raises(ConfigError, match="expected one for each of the 1 scans, found 2"):
        detect_scans(tiny_run.bundle, [tiny_scan], tmp_path / "out", brain_masks=[mask, mask])
