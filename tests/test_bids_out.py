"""BIDS derivatives: what ``detect`` writes of a BIDS data set, and what the validator says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twinvae.detection.detect import Detection, detect_scans
from twinvae.files import write_json
from twinvae.runs.folder import Run

VALIDATOR = shutil.which("bids-validator-deno", path=f"{Path(sys.executable).parent}") or (
    shutil.which("bids-validator-deno")
)
STEM = "sub-{0}/ses-1/anat/sub-{0}_ses-1_run-2"


def put(scan: Path, root: Path, *names: str) -> Path:
    """A raw BIDS data set of copies of one scan."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scan, root / name)
    about = {"Name": "Made up", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0"}
    write_json(root / "dataset_description.json", about)
    (root / "README").write_text("Scans that were generated, to test what reads them. " * 5)
    return root


@pytest.fixture
def dataset(tiny_scan: Path, tmp_path: Path) -> Path:
    names = (f"{STEM.format('01')}_T2w.nii.gz", "sub-02/anat/sub-02_acq-fast_T2w.nii.gz")
    return put(tiny_scan, tmp_path / "study", *names)


@pytest.fixture(scope="session")
def judged(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with derivatives; tests must not change it."""
    scan = next((tiny_run.folder / "cohort/mixed").glob("sub-*/anat/*_T2w.nii.gz"))
    root = tmp_path_factory.mktemp("bids") / "study"
    put(scan, root, f"{STEM.format('01')}_T2w.nii.gz", "sub-02/anat/sub-02_acq-fast_T2w.nii.gz")
    detect(tiny_run, root, maps=["image_l1"])
    return root


def detect(run: Run, root: Path, **options: Any) -> list[Detection]:
    return detect_scans(run.bundle, root, root / "derivatives/twinvae", threads=1, **options)


def errors_in(root: Path) -> list[str]:
    """What the official validator calls an error in a data set."""
    if VALIDATOR is None:
        pytest.skip('no bids-validator-deno: pip install "twinvae[dev]"')
    done = subprocess.run(
        [VALIDATOR, "--format", "json", str(root)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = json.loads(done.stdout)["issues"]["issues"]
    return [
        f"{one['code']} {one.get('subCode', '')} {one['location']} {one.get('issueMessage')}"
        for one in found
        if one["severity"] == "error"
    ]


def test_the_official_validator_finds_no_error(judged: Path) -> None:
    assert errors_in(judged) == []
    assert errors_in(judged / "derivatives/twinvae") == []


def test_the_validator_would_tell(judged: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(judged / "derivatives/twinvae", tmp_path / "twinvae"))
    (out / ".bidsignore").unlink()
    shutil.copyfile(next(out.glob("sub-02/anat/*healthy*.nii.gz")), out / "sub-02/anat/x.nii.gz")
    found = "\n".join(errors_in(out))
    assert "/sub-02/anat/x.nii.gz" in found
    assert "/index.html" in found
