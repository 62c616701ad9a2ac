"""DICOM out: on the source's grid to the voxel, and what it says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_series import series_of
from twinvae import __version__
from twinvae.detection import dicom_out
from twinvae.detection.detect import detect_scans
from twinvae.errors import ConfigError
from twinvae.runs.folder import Run

MARK = "RESEARCH ONLY - NOT FOR CLINICAL USE"


class Judged:
    """A series, what was found in it, and the labels the regions had when they were found."""

    def __init__(self, run: Run, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kept, regions = [], dicom_out._regions
        monkeypatch.setattr(
            dicom_out, "_regions", lambda looked: kept.append(regions(looked)) or kept[-1]
        )
        (self.found,) = detect_scans(run.bundle, [source], out, force=True, threads=1)
        files = [source] if source.is_file() else sorted(source.iterdir())
        self.source = [pydicom.dcmread(file) for file in files]
        self.folder = self.found.folder / "dicom"
        (self.regions,) = kept
        self.affine = nib.load(self.found.folder / "residual.nii.gz").affine

    def read(self, pattern: str) -> list[Dataset]:
        return [pydicom.dcmread(file) for file in sorted(self.folder.glob(pattern))]


@pytest.fixture(scope="module", params=["classic", "oblique", "reversed", "coronal", "enhanced"])
def judged(tiny_run: Run, abnormal_scan: Path, tmp_path_factory, request) -> Judged:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        source = series_of(request.param, abnormal_scan, folder / "series")
        return Judged(tiny_run, source, folder / "out", patch)


def _places(frame: Dataset, shared: Dataset) -> np.ndarray:
    """The affine of a frame's (row, column) indices in DICOM's LPS, from its own groups."""
    groups = [frame, shared]

    def of(group: str, keyword: str) -> np.ndarray:
        holder = next(one for one in groups if group in one)
        return np.array([float(v) for v in holder[group].value[0][keyword].value])

    axes = of("PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3)
    between_rows, between_columns = of("PixelMeasuresSequence", "PixelSpacing")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = axes[1] * between_rows, axes[0] * between_columns
    affine[:3, 3] = of("PlanePositionSequence", "ImagePositionPatient")
    return affine


def test_segmentation_holds_the_very_voxels_at_their_places(judged: Judged) -> None:
    labels = judged.regions.labels
    assert labels.max() >= 1
    (seg,) = judged.read("seg.dcm")
    got = np.zeros_like(labels)
    shared = seg.SharedFunctionalGroupsSequence[0]
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    to_scan = np.linalg.inv(judged.affine) @ np.diag([-1.0, -1, 1, 1])
    for frame, mask in zip(seg.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        groups = frame if "SegmentIdentificationSequence" in frame else shared
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        rows, columns = np.nonzero(mask)
        at = np.stack([rows, columns, np.zeros_like(rows), np.ones_like(rows)])
        voxels = (to_scan @ _places(frame, shared) @ at)[:3]
        assert np.abs(voxels - voxels.round()).max() < 1e-3
        got[tuple(voxels.round().astype(int))] = number
    np.testing.assert_array_equal(got, labels)


def test_lesions_page_segmentation_and_report_hold_the_same_places(judged: Judged) -> None:
    lesions = pd.read_csv(judged.found.folder / "lesions.tsv", sep="\t")
    assert len(lesions) >= 1
    (seg,) = judged.read("seg.dcm")
    named = [f"Region {row.lesion}: {row.place}" for row in lesions.itertuples()]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == named
    report = hd.sr.srread(judged.folder / "sr.dcm").content
    volumes = [
        measure.value
        for group in report.get_volumetric_roi_measurement_groups()
        for measure in group.get_measurements()
    ]
    assert volumes == pytest.approx(lesions["volume_ml"].tolist())
    page = (judged.found.folder / "report.html").read_text()
    for row in lesions.head(12).itertuples():
        assert f">{row.lesion}: {row.place}</button>" in page
    world = lesions[["peak_x_mm", "peak_y_mm", "peak_z_mm"]].to_numpy().T
    at = np.linalg.inv(judged.affine) @ [*world, np.ones(len(lesions))]
    labels = judged.regions.labels
    assert labels[tuple(at[:3].round().astype(int))].tolist() == lesions["lesion"].tolist()


def test_every_frame_names_the_image_it_was_drawn_on(judged: Judged) -> None:
    (seg,) = judged.read("seg.dcm")
    files = {ds.SOPInstanceUID: ds for ds in judged.source}
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == judged.source[0].SeriesInstanceUID
    assert seg.FrameOfReferenceUID == judged.source[0].FrameOfReferenceUID
    for frame in seg.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = files[image.ReferencedSOPInstanceUID]
        if "PerFrameFunctionalGroupsSequence" in place:
            number = image.ReferencedFrameNumber
            place = place.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
        mine = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(mine, place.ImagePositionPatient, atol=1e-4)


def test_report_holds_the_verdict_and_the_volume_of_every_region(judged: Judged) -> None:
    report = hd.sr.srread(judged.folder / "sr.dcm").content
    (scan,) = report.get_image_measurement_groups()
    values = {m.name.value: m.value for m in scan.get_measurements()}
    verdict = judged.found.verdict
    assert values == pytest.approx(
        {"SCAN_SCORE": verdict.value, "SCAN_THRESHOLD": verdict.threshold}, rel=1e-5
    )
    (said,) = scan.get_qualitative_evaluations()
    assert (said.name.value, said.value.value) == ("VERDICT", "ABNORMAL")
    (file,) = judged.read("sr.dcm")
    texts = {e.value for e in file.iterall() if e.keyword == "TextValue"}
    assert {MARK, "bundle: tiny", "score: residual_local", __version__} <= texts
    assert any(text.startswith("bundle version: ") for text in texts)
    regions = report.get_volumetric_roi_measurement_groups()
    labels, side = judged.regions.labels, np.linalg.norm(judged.affine[:3, :3], axis=0)
    (seg,) = judged.read("seg.dcm")
    assert len(regions) == len(seg.SegmentSequence) == labels.max()
    for number, (region, segment) in enumerate(zip(regions, seg.SegmentSequence, strict=True), 1):
        (volume,) = region.get_measurements()
        assert volume.name.meaning == "Volume"
        assert volume.unit.value == "ml"
        assert volume.value == pytest.approx(
            (labels == number).sum() * np.prod(side) / 1000, abs=6e-4
        )
        assert region.tracking_uid == segment.TrackingUID
        named = region.referenced_segment[0].ReferencedSOPSequence[0]
        assert named.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert named.ReferencedSegmentNumber == number


def test_key_slices_are_distinct_pictures_with_the_mark(judged: Judged) -> None:
    pictures = judged.read("sc-*.dcm")
    assert 1 <= len(pictures) <= 6
    sources = {ds.SOPInstanceUID for ds in judged.source}
    seen = set()
    for picture in pictures:
        pixels = picture.pixel_array
        assert pixels.shape[2] == 3
        red = (pixels[:40, :, 0] > 150) & (pixels[:40, :, 2] < 130)
        assert red.sum() > 500, "the words above the slice"
        assert (pixels[40:-40].max(2) > 100).sum() > 1000, "a head"
        item = picture.SourceImageSequence[0]
        assert item.ReferencedSOPInstanceUID in sources
        seen.add((item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber")))
    assert len(seen) == len(pictures)


def test_objects_belong_to_the_study_and_are_marked_as_research(judged: Judged) -> None:
    objects = judged.read("*.dcm")
    source = judged.source[0]
    for one in objects:
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate"):
            assert one[keyword].value == source[keyword].value
        assert MARK in one.SeriesDescription
        assert one.ContentQualification == "RESEARCH"
        assert one.ManufacturerModelName == "twinvae"
        assert one.SoftwareVersions == __version__
    (seg,) = judged.read("seg.dcm")
    assert seg.ContentLabel == "RESEARCH_ONLY"
    series = {one.SeriesInstanceUID for one in objects}
    assert len(series) == 3
    assert source.SeriesInstanceUID not in series
    assert len({one.SOPInstanceUID for one in objects}) == len(objects)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (dicom3tools)")
def test_a_validator_finds_no_error(judged: Judged) -> None:
    for file in sorted(judged.folder.glob("*.dcm")):
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert "Error" not in said, f"{file.name}: {said}"


def _healthy(run: Run, out: Path) -> Path:
    scans = sorted((run.folder / "cohort/healthy").glob("sub-*/anat/*_T2w.nii.gz"))[:8]
    found = detect_scans(run.bundle, scans, out, force=True, threads=1)
    return next(one.image for one in found if not one.verdict.abnormal)


def test_a_scan_called_healthy_gets_a_report_and_no_segmentation(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = _healthy(tiny_run, tmp_path / "looked")
    series = series_of("classic", scan, tmp_path / "t2")
    judged = Judged(tiny_run, series, tmp_path / "out", monkeypatch)
    names = {file.name for file in judged.folder.iterdir()}
    assert "seg.dcm" not in names
    assert {"sr.dcm", "sc-1.dcm"} <= names
    report = hd.sr.srread(judged.folder / "sr.dcm").content
    assert not report.get_volumetric_roi_measurement_groups()
    (scan_group,) = report.get_image_measurement_groups()
    assert scan_group.get_qualitative_evaluations()[0].value.value == "HEALTHY"


def test_a_scan_out_of_domain_gets_no_number_and_no_region(
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path
) -> None:
    series = series_of("flipped", abnormal_scan, tmp_path / "t2")
    (one,) = detect_scans(tiny_run.bundle, [series], tmp_path / "out", threads=1)
    assert one.verdict is None
    assert not (one.folder / "dicom/seg.dcm").exists()
    assert (one.folder / "dicom/sc-1.dcm").is_file()
    report = hd.sr.srread(one.folder / "dicom/sr.dcm")
    (group,) = report.content.get_image_measurement_groups()
    assert not group.get_measurements()
    assert group.get_qualitative_evaluations()[0].value.meaning == "none: out of domain"
    texts = [e.value for e in report.iterall() if e.keyword == "TextValue"]
    assert any("OUT OF DOMAIN" in text for text in texts)


def test_without_highdicom_it_is_said_once_and_scans_are_judged(
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    scans = [series_of("classic", abnormal_scan, tmp_path / name, series=name) for name in "34"]
    monkeypatch.setattr(dicom_out, "find_spec", lambda name: None)
    found = detect_scans(tiny_run.bundle, scans, tmp_path / "out", force=True, threads=1)
    assert capsys.readouterr().err.count('pip install "twinvae[dicom]"') == 1
    assert len(found) == 2
    assert not list((tmp_path / "out").rglob("dicom"))
    with pytest.raises(ConfigError, match="highdicom to be installed"):
        detect_scans(tiny_run.bundle, scans, tmp_path / "no", dicom=True, threads=1)
    assert not (tmp_path / "no").exists()


def test_dicom_can_be_refused_and_needs_a_series(
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path
) -> None:
    scan = series_of("classic", abnormal_scan, tmp_path / "t2")
    detect_scans(tiny_run.bundle, [scan], tmp_path / "out", dicom=False, force=True, threads=1)
    assert (tmp_path / "out/t2/verdict.json").is_file()
    assert not (tmp_path / "out/t2/dicom").exists()
    with pytest.raises(ConfigError, match="expected a DICOM series among the scans"):
        detect_scans(tiny_run.bundle, [abnormal_scan], tmp_path / "no", dicom=True, threads=1)


def test_a_series_that_cannot_be_referred_to_keeps_its_verdict(
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path, capsys
) -> None:
    scan = series_of("classic", abnormal_scan, tmp_path / "t2", FrameOfReferenceUID=None)
    (one,) = detect_scans(tiny_run.bundle, [scan], tmp_path / "out", force=True, threads=1)
    assert one.verdict is not None
    assert (one.folder / "verdict.json").is_file()
    assert not (one.folder / "dicom").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert "No DICOM objects were written" in said
    assert "expected FrameOfReferenceUID, found none" in said
