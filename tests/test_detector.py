"""Detection from Python: the command's numbers to the bit, nothing written, the same refusals."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from nibabel.eulerangles import euler2mat
from typer.testing import CliRunner

from contrasts import CONTRASTS, a_patient, scans_of
from dicom_files import classic, uid
from twinvae import Detector, PatientResult, Result
from twinvae.commands.app import app
from twinvae.detection.detect import detect_scans
from twinvae.detection.detect_patients import detect_patients
from twinvae.errors import ConfigError, DataError, OutputError
from twinvae.files import read_json
from twinvae.imaging.volume import Volume, write_volume
from twinvae.runs.folder import Run

MAP = "residual_mirrored"


@pytest.fixture(scope="module")
def detector(tiny_run: Run) -> Detector:
    return Detector.load(tiny_run.bundle, threads=1)


@pytest.fixture
def scan(tiny_scan: Path, tmp_path: Path) -> Path:
    """A scan whose axes neither point right, anterior, superior nor stand at right angles to it."""
    image = nib.load(tiny_scan)
    turned = image.as_reoriented(nib.orientations.axcodes2ornt("PIR"))
    oblique = turned.affine.copy()
    oblique[:3, :3] = euler2mat(0.02, 0.03, 0.01) @ oblique[:3, :3]
    path = tmp_path / "in" / "scan.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), oblique), path)
    return path


def brain_of(scan: Path) -> np.ndarray:
    return np.asarray(nib.load(scan).dataobj) > 0


def same(one: Result, other: Result) -> None:
    pd.testing.assert_frame_equal(one.slices, other.slices, check_exact=True)
    pd.testing.assert_frame_equal(one.lesions, other.lesions, check_exact=True)
    assert one.judgement.verdict == other.judgement.verdict
    for mine, its in ((one.map, other.map), (one.healthy, other.healthy)):
        np.testing.assert_array_equal(mine.dataobj, its.dataobj)
        np.testing.assert_array_equal(mine.affine, its.affine)
    for name in one.maps:
        np.testing.assert_array_equal(one.maps[name].dataobj, other.maps[name].dataobj)


@pytest.mark.parametrize("masked", [False, True])
def test_wherever_a_scan_is_the_numbers_are_the_commands(
    tiny_run: Run, detector: Detector, scan: Path, tmp_path: Path, masked: bool
) -> None:
    image = nib.load(scan)
    inner = brain_of(scan) & (np.indices(image.shape)[1] > 3)
    mask = tmp_path / "in" / "mask.nii.gz"
    nib.save(nib.Nifti1Image(inner.astype(np.uint8), image.affine), mask)
    out = tmp_path / "out"
    given = ["--brain-mask", str(mask)] if masked else []
    command = ["detect", str(tiny_run.bundle), str(scan), "-o", str(out), "--maps", MAP,
               "--threads", "1", "--force", *given]  # fmt: skip
    assert CliRunner().invoke(app, command).exit_code == 0
    ways = {
        "path": (scan, None, mask),
        "text": (str(scan), None, inner),
        "nibabel": (image, None, nib.load(mask)),
        "array": (np.ascontiguousarray(image.dataobj), image.affine, inner),
        "float64": (image.get_fdata(), image.affine.tolist(), mask),
    }
    found = {
        way: detector.predict(
            one, affine=affine, brain_mask=its if masked else None, maps=[MAP], force=True,
        )
        for way, (one, affine, its) in ways.items()
    }  # fmt: skip
    for result in found.values():
        same(found["path"], result)
    one, folder = found["path"], out / "scan"
    said = read_json(folder / "verdict.json")
    assert (one.verdict, one.abnormal) == (said["verdict"], said["abnormal"])
    assert (one.value, one.threshold, one.p_value) == (
        said["value"], said["threshold"], said["p_value"],
    )  # fmt: skip
    for table, file in ((one.slices, "slices.tsv"), (one.lesions, "lesions.tsv")):
        text = table.to_csv(sep="\t", index=False, lineterminator="\n")
        assert text == (folder / file).read_text(encoding="utf-8")
    for name, mine in {"healthy": one.healthy, **one.maps}.items():
        file = nib.load(folder / f"{name}.nii.gz")
        np.testing.assert_array_equal(mine.dataobj, np.asarray(file.dataobj))
        np.testing.assert_allclose(mine.affine, file.affine, atol=1e-6)
    assert set(one.maps) == {"residual", MAP}


def test_an_image_of_simpleitk_is_taken_as_its_file_is(
    detector: Detector, scan: Path, tmp_path: Path
) -> None:
    image = nib.load(scan)
    file = tmp_path / "in" / "scan.mha"
    write_volume(Volume(image.get_fdata(dtype=np.float32), image.affine), file)
    from_file = detector.predict(file, force=True)
    same(from_file, detector.predict(sitk.ReadImage(str(file)), force=True))
    # Another format rounds the affine otherwise, which moves no slice.
    np.testing.assert_allclose(
        from_file.slices["residual_local"],
        detector.predict(scan, force=True).slices["residual_local"], rtol=1e-4,
    )  # fmt: skip


def test_the_map_reaches_one_where_lesions_are(detector: Detector, scan: Path) -> None:
    one = detector.predict(scan, force=True)
    image = nib.load(scan)
    assert one.map.shape == one.healthy.shape == image.shape
    np.testing.assert_allclose(one.map.affine, image.affine)
    values = np.asarray(one.map.dataobj)
    assert not values[~brain_of(scan)].any()
    assert len(one.lesions)
    voxels = np.linalg.inv(one.map.affine) @ np.array(
        [*one.lesions.loc[0, ["peak_x_mm", "peak_y_mm", "peak_z_mm"]], 1.0]
    )
    peak = values[tuple(np.rint(voxels[:3]).astype(int))]
    assert peak == pytest.approx(one.lesions.loc[0, "peak"], abs=1e-3)
    assert one.lesions.loc[0, "peak"] == pytest.approx(values.max(), abs=1e-3)


def everything(*folders: Path) -> dict[Path, int]:
    found = [path for folder in folders for path in folder.rglob("*")]
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


def test_nothing_is_written_unless_asked(
    tiny_run: Run, detector: Detector, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path, tiny_run.bundle]
    for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before, image = everything(*places), nib.load(scan)
    array = np.asarray(image.dataobj, np.float32)
    kept = array.copy()
    found = [
        detector.predict(scan, force=True),
        detector.predict(array, affine=image.affine, brain_mask=brain_of(scan), force=True),
    ]
    for one in found:
        assert one.map.shape == one.healthy.shape == array.shape
        assert len(one.maps) == 1
        assert one._repr_html_()
    with pytest.raises(DataError):
        detector.predict(np.zeros((3, 4, 5)), affine=np.eye(4))
    assert everything(*places) == before
    np.testing.assert_array_equal(array, kept)
    found[1].write("out")
    assert {path.parent for path in set(everything(*places)) - set(before)} == {Path.cwd() / "out"}


def test_what_is_written_is_what_the_command_writes(
    tiny_run: Run, detector: Detector, scan: Path, tmp_path: Path
) -> None:
    detect_scans(tiny_run.bundle, [scan], tmp_path / "command", force=True, threads=1, maps=[MAP])
    one = detector.predict(scan, force=True, maps=[MAP])
    assert one.write(tmp_path / "mine") == tmp_path / "mine"
    command, mine = tmp_path / "command" / "scan", tmp_path / "mine"
    names = {path.name for path in command.iterdir()} - {"made_from.json"}  # for further calls
    assert names == {path.name for path in mine.iterdir()}
    names.remove(".twinvae.json")  # which lists them
    for name in sorted(names):
        assert (command / name).read_bytes() == (mine / name).read_bytes(), name
    one.write(command)  # the same scan's results: replaced


def test_results_of_other_scans_and_of_others_are_kept(
    detector: Detector, scan: Path, tmp_path: Path
) -> None:
    image = nib.load(scan)
    array = np.asarray(image.dataobj, np.float32)
    out = detector.predict(array, affine=image.affine, force=True).write(tmp_path / "out")
    before = everything(tmp_path)
    other = detector.predict(array * (array > np.median(array[array > 0]) / 2),
                             affine=image.affine, force=True)  # fmt: skip
    with pytest.raises(OutputError, match="expected a new folder or the results of a scan"):
        other.write(out)
    with pytest.raises(OutputError, match="which twinvae did not write"):
        other.write(scan.parent)
    assert everything(tmp_path) == before
    detector.predict(array, affine=image.affine, force=True).write(out)
    said = read_json(out / "verdict.json")
    assert said["scan"] == "scan (in memory)"


def test_without_force_a_strange_scan_has_no_verdict(detector: Detector, scan: Path) -> None:
    image = nib.load(scan)
    flat = (np.asarray(image.dataobj) > 0) * np.random.default_rng(0).uniform(
        1, 2, image.shape
    )  # noise in the shape of a brain
    one = detector.predict(flat, affine=image.affine, name="noise")
    assert one.verdict == "none: out of domain"
    assert (one.abnormal, one.value, one.threshold, one.p_value) == (None,) * 4
    assert one.warnings[0].startswith("OUT OF DOMAIN")
    assert repr(one) == "<noise: none: out of domain>"
    page = one._repr_html_()
    assert "OUT OF DOMAIN" in page
    assert "not for clinical use" in page
    assert detector.predict(flat, affine=image.affine, force=True).abnormal is not None


def test_names_are_escaped_on_the_small_page(detector: Detector, scan: Path) -> None:
    page = detector.predict(scan, force=True, name="<b>&")._repr_html_()
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&:" not in page


def test_what_cannot_be_used_is_refused_as_the_command_does(
    detector: Detector, scan: Path, tmp_path: Path
) -> None:
    image = nib.load(scan)
    array, affine = np.asarray(image.dataobj, np.float32), image.affine
    holes = array.copy()
    holes[0, 0, :2] = np.nan
    metres = nib.Nifti1Image(array, affine)
    metres.header.set_xyzt_units("meter")
    placeless = nib.Nifti1Image(array, None)
    brain = brain_of(scan)
    for given, how, words in (
        (tmp_path / "none.nii", {}, "none.nii: no such file"),
        (holes, {"affine": affine}, r"scan \(in memory\): expected finite voxels, found 2 NaN"),
        (array[0], {"affine": affine}, "expected a 3-D volume, found 2-D"),
        (
            np.stack([array] * 2, -1),
            {"affine": affine},
            r"expected a 3-D volume, found 4-D .*×2\)$",
        ),
        (array, {"affine": np.eye(3)}, "expected a finite 4×4 affine"),
        (array, {"affine": np.zeros((4, 4))}, "expected an affine that can be inverted"),
        (np.ones_like(array), {"affine": affine}, "expected an image, found 1 in every voxel"),
        (array.astype(complex), {"affine": affine}, "expected an array of real numbers"),
        (["a"], {"affine": affine}, "expected an array of real numbers"),
        (metres, {}, "expected a header in mm, found metres"),
        (placeless, {}, "expected an image with an affine, found none"),
        (array + 40, {"affine": affine}, "of a whole head give the brain mask"),
        (scan, {"brain_mask": brain[1:]}, "brain mask of .*expected the scan's shape"),
        (scan, {"brain_mask": np.zeros_like(brain)}, "expected a brain mask, found no voxel"),
        (scan, {"brain_mask": array}, "expected a mask of zeros and one other value"),
        (
            scan,
            {"brain_mask": nib.Nifti1Image(brain.astype(np.uint8), np.diag([4.0, 4, 4, 1]))},
            "expected the scan's affine",
        ),
    ):
        with pytest.raises(DataError, match=words):
            detector.predict(given, **how)
    for given, how, words in (
        (array, {}, "expected a 4×4 affine beside an array .*, found none"),
        (image, {"affine": affine}, "expected no affine beside an image"),
        (scan, {"affine": affine}, "expected no affine beside a file"),
        (scan, {"brain_mask": brain, "skull_strip": True}, "skull_strip: expected no brain mask"),
        ({"T2w": scan}, {}, "expected one scan, found a mapping"),
        (scan, {"maps": ["no_such_map"]}, "no_such_map"),
    ):
        with pytest.raises(ConfigError, match=words):
            detector.predict(given, **how)


def test_a_damaged_file_opened_by_nibabel_is_no_surprise(
    detector: Detector, scan: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(scan.read_bytes()[:-2000])
    with pytest.raises(DataError, match="expected a readable image, found damage"):
        detector.predict(nib.load(broken))


def test_errors_and_results_of_dicom_name_no_patient(detector: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "Doe_Jane"
    voxels = np.zeros((16, 16, 12), np.int16)
    voxels[4:12, 4:12, 2:10] = np.random.default_rng(0).integers(50, 90, (8, 8, 8))
    classic(folder, voxels, np.diag([4.0, 4, 4, 1]), PatientName="Doe^Jane")
    for how in ({}, {"brain_mask": np.ones((3, 3, 3), np.uint8)}):
        with pytest.raises(DataError) as raised:
            detector.predict(folder, **how)
        assert "Doe" not in str(raised.value)
        assert "Jane" not in str(raised.value)


def test_a_dicom_series_gets_dicom_objects_when_it_is_written(
    tiny_run: Run, detector: Detector, tiny_scan: Path, tmp_path: Path
) -> None:
    image, folder = nib.load(tiny_scan), tmp_path / "Zwiebelkuchen_Kunigunde"
    classic(folder, np.asarray(image.dataobj).astype(np.int16), image.affine,
            PatientName="Zwiebelkuchen^Kunigunde", FrameOfReferenceUID=uid("frame"))  # fmt: skip
    one = detector.predict(folder, force=True)
    (told,) = detect_scans(tiny_run.bundle, [folder], tmp_path / "command", force=True, threads=1)
    assert one.name == told.name == repr(one)[1:].partition(":")[0]
    assert one.name.startswith("series-")
    same(one, detector.predict(image, force=True))
    one.write(tmp_path / "mine")
    names = {path.relative_to(told.folder) for path in told.folder.rglob("*")}
    names.remove(Path("made_from.json"))  # for further calls
    assert names == {path.relative_to(tmp_path / "mine") for path in (tmp_path / "mine").rglob("*")}
    assert Path("dicom/sr.dcm") in names
    for file in ("verdict.json", "report.html", "slices.tsv"):
        text = (tmp_path / "mine" / file).read_text(encoding="utf-8")
        assert "Zwiebel" not in text
        assert "Kunigunde" not in text
    assert not (one.write(tmp_path / "plain", dicom=False) / "dicom").exists()
    with pytest.raises(OutputError, match="outside the input"):
        one.write(folder / "results")
    with pytest.raises(ConfigError, match="expected a DICOM series"):
        detector.predict(image, force=True).write(tmp_path / "none", dicom=True)
    assert not (tmp_path / "none").exists()


def test_contrasts_of_a_patient_are_judged_together(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    files = scans_of(runs, a_patient(runs))
    detector = Detector.load(composite, threads=1)
    (told,) = detect_patients(
        composite, list(files.values()), tmp_path / "command", force=True, threads=1
    )
    images = {contrast: nib.load(path) for contrast, path in files.items()}
    for given in (files, images, {**images, "T1w": files["T1w"]}):
        one = detector.predict(given, force=True, name=told.name)
        assert isinstance(one, PatientResult)
        assert one.judgement.verdict == told.verdict
        assert one.found.contrasts == told.contrasts == CONTRASTS
        assert one.warnings == told.warnings
        for contrast, alone in one.scans.items():
            assert alone.judgement.verdict == told.alone[contrast].verdict
            file = tmp_path / "command" / told.name / contrast / "healthy.nii.gz"
            np.testing.assert_array_equal(alone.healthy.dataobj, nib.load(file).dataobj)
    assert list(one.lesions.columns[:2]) == ["contrast", "lesion"]
    assert len(one.lesions) == sum(len(alone.lesions) for alone in one.scans.values())
    assert all(contrast in one._repr_html_() for contrast in CONTRASTS)
    one = detector.predict(files, force=True, name=told.name)
    one.write(tmp_path / "mine")
    command, mine = tmp_path / "command" / told.name, tmp_path / "mine"
    assert (command / "verdict.json").read_text() == (mine / "verdict.json").read_text()
    names = {path.relative_to(command) for path in command.rglob("*")} - {Path("made_from.json")}
    assert names == {path.relative_to(mine) for path in mine.rglob("*")}


def test_a_composite_bundle_says_how_scans_are_given(
    composite: Path, runs: dict[str, Path]
) -> None:
    files, detector = scans_of(runs, a_patient(runs)), Detector.load(composite, threads=1)
    for given, how, words in (
        (files["T2w"], {}, r'by contrast \(T2w, FLAIR, T1w\), as \{"T2w": scan\}'),
        ({}, {}, "expected contrasts among T2w, FLAIR, T1w, found none"),
        ({"PD": files["T2w"]}, {}, "expected contrasts among T2w, FLAIR, T1w, found PD"),
        (
            {"T2w": files["T2w"]},
            {"brain_mask": {"FLAIR": None}},
            "expected masks of T2w, found FLA",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            detector.predict(given, **how)
    image = nib.load(files["FLAIR"])
    holes = np.full(image.shape, np.nan)
    with pytest.raises(DataError, match=r"patient FLAIR \(in memory\): expected finite voxels"):
        detector.predict({"T2w": files["T2w"], "FLAIR": nib.Nifti1Image(holes, image.affine)})
    one = detector.predict({"T1w": files["T1w"]}, force=True)
    assert one.found.score == "image_l2"


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no bundle of that name"):
        Detector.load("t2")
    with pytest.raises(DataError, match="expected a bundle"):
        Detector.load(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"threads": 0}])
def test_a_device_that_there_cannot_be_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Detector.load("t2w", **wrong)
