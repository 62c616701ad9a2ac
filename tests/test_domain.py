"""Scans out of domain get no verdict, tumours do not put a scan there."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from twinvae.commands.app import app
from twinvae.detection.detect import Detection, detect_scans
from twinvae.errors import NoVerdictError
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run


@pytest.fixture(scope="module")
def healthy_scan(tiny_run: Run) -> Path:
    """A healthy test scan: no threshold has seen it."""
    index = SliceStore.open(tiny_run.slices).index
    test = index[(index["role"] == "healthy") & (index["split"] == "test")]
    return next(
        (tiny_run.folder / "cohort/healthy").glob(f"*{test['subject'].iloc[0]}/anat/*T2w*gz")
    )


def changed(scan: Path, folder: Path, how: str) -> Path:
    """The scan with another contrast or scale, or with a lesion of 6 cm."""
    image = nibabel.load(scan)
    data = np.asarray(image.dataobj, np.float32)
    brain = data > 0
    affine = image.affine.copy()
    if how == "flipped":  # dark becomes bright, as from T2w to T1w
        data = np.where(brain, data[brain].max() + 1 - data, 0)
    elif how == "squared":
        data = data**2
    elif how == "ten times":
        data = data * 10
    elif how == "smaller voxels":
        affine[:3, :3] *= 0.7
    elif how == "lesion":
        middle = np.add(ndimage.center_of_mass(brain), [6, 0, 0])
        far = np.linalg.norm(np.indices(brain.shape).T - middle, axis=-1).T * 4.0  # 4 mm voxels
        data = np.where(brain & (far < 30), np.percentile(data[brain], 97), data)
    path = folder / f"{how.replace(' ', '_')}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), affine), path)
    return path


def detect(run: Run, scan: Path, out: Path, **options) -> Detection:
    return detect_scans(run.bundle, [scan], out, threads=1, **options)[0]


@pytest.mark.parametrize("how", ["as it is", "ten times", "lesion"])
def test_healthy_scans_in_any_unit_and_large_lesions_are_judged(
    tiny_run: Run, healthy_scan: Path, tmp_path: Path, how: str
) -> None:
    found = detect(tiny_run, changed(healthy_scan, tmp_path, how), tmp_path / "out")
    assert found.judgement.outside == ()
    assert found.verdict is not None
    assert set(found.slices["domain"]) == {"inside"}


@pytest.mark.parametrize(
    ("how", "statistic"),
    [("flipped", "intensity_p"), ("squared", "intensity_p"), ("smaller voxels", "brain_ml")],
)
def test_other_contrasts_and_grids_get_no_verdict_and_every_output_says_so(
    tiny_run: Run, healthy_scan: Path, tmp_path: Path, capsys, how: str, statistic: str
) -> None:
    found = detect(tiny_run, changed(healthy_scan, tmp_path, how), tmp_path / "out")
    assert found.verdict is None
    assert any(one.statistic.startswith(statistic) for one in found.judgement.outside)
    stored = read_json(found.folder / "verdict.json")
    assert stored["verdict"] == "none: out of domain"
    assert [stored[k] for k in ("abnormal", "abnormal_slices", "p_value")] == [None, None, None]
    assert stored["domain"]["state"] == "outside"
    assert stored["domain"]["outside"][0]["says"] in (found.folder / "report.html").read_text()
    table = pd.read_csv(found.folder / "slices.tsv", sep="\t")
    assert table["abnormal"].isna().all()
    assert set(table["domain"]) == {"outside"}
    summary = pd.read_csv(tmp_path / "out/summary.tsv", sep="\t")
    assert summary["verdict"].tolist() == ["none: out of domain"]
    assert statistic in summary["outside"].iloc[0]
    said = capsys.readouterr().err
    assert "OUT OF DOMAIN" in said
    assert statistic in said


def test_force_gives_a_verdict_and_says_that_it_did(
    tiny_run: Run, healthy_scan: Path, tmp_path: Path
) -> None:
    scan = changed(healthy_scan, tmp_path, "flipped")
    arguments = ["detect", str(tiny_run.bundle), str(scan), "--threads", "1", "-o"]
    plain = CliRunner().invoke(app, [*arguments, str(tmp_path / "plain")])
    assert isinstance(plain.exception, NoVerdictError)
    assert "NO VERDICT" in plain.output
    forced = CliRunner().invoke(app, [*arguments, str(tmp_path / "forced"), "--force"])
    assert forced.exit_code == 0
    stored = read_json(tmp_path / "forced/flipped/verdict.json")
    assert stored["verdict"] in ("abnormal", "healthy")
    assert stored["domain"]["state"] == "forced"
    assert "the verdict was forced" in (tmp_path / "forced/flipped/report.html").read_text()
