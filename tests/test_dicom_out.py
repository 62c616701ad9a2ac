"""DICOM out: on the source's grid to the voxel, what it says, and whose name is nowhere else."""

from __future__ import annotations

import gzip
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
from typer.testing import CliRunner

from dicom_files import classic, enhanced, uid
from twinvae import __version__
from twinvae.commands.app import app
from twinvae.detection import dicom_out
from twinvae.detection.detect import detect_scans
from twinvae.errors import ConfigError, PartialFailureError
from twinvae.runs.folder import Run

MARK = "RESEARCH ONLY - NOT FOR CLINICAL USE"
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
TELLING = ("zwiebelkuchen", "kunigunde", "0815", "19340517", "1934-05-17", "acc4711", "20240131")


def _turned(affine: np.ndarray) -> np.ndarray:
    """Oblique: ten degrees about x, then five about z, and elsewhere."""
    a, b = np.radians((10.0, 5.0))
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_z = [[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]
    turn = np.eye(4)
    turn[:3, :3] = np.array(about_z) @ np.array(about_x)
    return turn @ affine


def _series(kind: str, scan: Path, folder: Path, **more: object) -> Path:
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


@pytest.fixture(scope="module")
def abnormal(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's scan that is called abnormal with most abnormal slices."""
    scans = sorted((tiny_run.folder / "cohort/mixed").glob("sub-*/anat/*_T2w.nii.gz"))[:6]
    out = tmp_path_factory.mktemp("looked")
    found = detect_scans(tiny_run.bundle, scans, out, force=True, threads=1)
    best = max(found, key=lambda one: (one.verdict.abnormal, int(one.slices["abnormal"].sum())))
    assert best.verdict.abnormal
    return best.image


@pytest.fixture(scope="module", params=["classic", "oblique", "reversed", "coronal", "enhanced"])
def judged(tiny_run: Run, abnormal: Path, tmp_path_factory, request) -> Judged:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        source = _series(request.param, abnormal, folder / "series")
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
    series = _series("classic", scan, tmp_path / "t2")
    judged = Judged(tiny_run, series, tmp_path / "out", monkeypatch)
    names = {file.name for file in judged.folder.iterdir()}
    assert "seg.dcm" not in names
    assert {"sr.dcm", "sc-1.dcm"} <= names
    report = hd.sr.srread(judged.folder / "sr.dcm").content
    assert not report.get_volumetric_roi_measurement_groups()
    (scan_group,) = report.get_image_measurement_groups()
    assert scan_group.get_qualitative_evaluations()[0].value.value == "HEALTHY"


def test_a_scan_out_of_domain_gets_no_number_and_no_region(
    tiny_run: Run, abnormal: Path, tmp_path: Path
) -> None:
    series = _series("flipped", abnormal, tmp_path / "t2")
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


def _everything(folder: Path) -> str:
    """Names and content of all files but the DICOM objects, and the names of these, too."""
    said = []
    for path in sorted(folder.rglob("*")):
        said.append(str(path.relative_to(folder)))
        if path.is_file() and path.parent.name != "dicom":
            raw = path.read_bytes()
            said.append((gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("latin-1"))
    return "\n".join(said).casefold()


@pytest.mark.parametrize("kind", ["classic", "enhanced", "broken", "one of two"])
def test_no_patient_is_named_outside_the_objects(
    tiny_run: Run, abnormal: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    export = tmp_path / "Zwiebelkuchen, Kunigunde 1934-05-17" / "mrn0815x_t2"
    name = "Kunigunde Zwiebelkuchen"  # not as the standard has names, which libraries remark on
    form = "enhanced" if kind == "enhanced" else "classic"
    given = _series(form, abnormal, export, PatientName=name)
    if kind == "broken":
        slices = sorted(given.iterdir())
        slices[3].unlink()
        slices[5].rename(slices[5].with_name("Kunigunde5"))
    name = str(given)
    if kind == "one of two":
        _series("classic", abnormal, export / "a", series="2", PatientName="Someone^Else")
        name += f"#{uid('series', '1')}"
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["detect", str(tiny_run.bundle), name, "-o", str(out), "--force", "--threads", "1"]
    )
    said = done.output + str(done.exception or "") + caplog.text
    if kind == "broken":
        assert "missing slice" in said
    else:
        assert (out / _only_folder(out) / "dicom/sr.dcm").is_file()
        assert (out / "summary.tsv").is_file()
        assert "report.html" in done.output
    everything = _everything(out) + said.casefold() if out.exists() else said.casefold()
    for word in TELLING:
        assert word not in everything, word


def _only_folder(out: Path) -> str:
    (name,) = [path.name for path in out.iterdir() if path.is_dir()]
    return name


def test_hidden_names_still_tell_scans_apart_and_are_found_again(
    tiny_run: Run, abnormal: Path, tmp_path: Path
) -> None:
    scans = [
        _series("classic", abnormal, tmp_path / f"Kunigunde_{n}", series=str(n)) for n in (1, 2)
    ]
    out = tmp_path / "out"
    first = detect_scans(tiny_run.bundle, scans, out, force=True, dicom=False, threads=1)
    assert len({one.name for one in first}) == 2
    again = detect_scans(tiny_run.bundle, scans[1:], out, force=True, dicom=False, threads=1)
    assert again[0].name == first[1].name
    assert len((out / "summary.tsv").read_text().splitlines()) == 3


def test_what_is_said_to_be_de_identified_keeps_its_name(
    tiny_run: Run, abnormal: Path, tmp_path: Path
) -> None:
    named = tmp_path / "sub-0815X"
    scan = _series("classic", abnormal, named, PatientID="0815X", PatientIdentityRemoved="YES")
    (one,) = detect_scans(tiny_run.bundle, [scan], tmp_path / "out", force=True, threads=1)
    assert one.name == "sub-0815X"
    assert str(scan) in (tmp_path / "out/summary.tsv").read_text()


def test_without_highdicom_it_is_said_once_and_scans_are_judged(
    tiny_run: Run, abnormal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    scans = [_series("classic", abnormal, tmp_path / name, series=name) for name in "34"]
    monkeypatch.setattr(dicom_out, "find_spec", lambda name: None)
    found = detect_scans(tiny_run.bundle, scans, tmp_path / "out", force=True, threads=1)
    assert capsys.readouterr().err.count('pip install "twinvae[dicom]"') == 1
    assert len(found) == 2
    assert not list((tmp_path / "out").rglob("dicom"))
    with pytest.raises(ConfigError, match="highdicom to be installed"):
        detect_scans(tiny_run.bundle, scans, tmp_path / "no", dicom=True, threads=1)
    assert not (tmp_path / "no").exists()


def test_dicom_can_be_refused_and_needs_a_series(
    tiny_run: Run, abnormal: Path, tmp_path: Path
) -> None:
    scan = _series("classic", abnormal, tmp_path / "t2")
    detect_scans(tiny_run.bundle, [scan], tmp_path / "out", dicom=False, force=True, threads=1)
    assert (tmp_path / "out/t2/verdict.json").is_file()
    assert not (tmp_path / "out/t2/dicom").exists()
    with pytest.raises(ConfigError, match="expected a DICOM series among the scans"):
        detect_scans(tiny_run.bundle, [abnormal], tmp_path / "no", dicom=True, threads=1)


def test_a_series_that_cannot_be_referred_to_keeps_its_verdict(
    tiny_run: Run, abnormal: Path, tmp_path: Path, capsys
) -> None:
    scan = _series("classic", abnormal, tmp_path / "t2", FrameOfReferenceUID=None)
    (one,) = detect_scans(tiny_run.bundle, [scan], tmp_path / "out", force=True, threads=1)
    assert one.verdict is not None
    assert (one.folder / "verdict.json").is_file()
    assert not (one.folder / "dicom").exists()
    said = " ".join(capsys.readouterr().err.split())
    assert "No DICOM objects were written" in said
    assert "expected FrameOfReferenceUID, found none" in said


def test_a_broken_series_among_others_is_named_without_its_patient(
    tiny_run: Run, abnormal: Path, tmp_path: Path
) -> None:
    bad = _series("classic", abnormal, tmp_path / "Kunigunde", series="2")
    sorted(bad.iterdir())[3].write_bytes(b"")
    good = _series("classic", abnormal, tmp_path / "t2")
    with pytest.raises(PartialFailureError, match="1 of 2 scans skipped") as error:
        detect_scans(tiny_run.bundle, [bad, good], tmp_path / "out", force=True, threads=1)
    assert "Kunigunde" not in str(error.value)
