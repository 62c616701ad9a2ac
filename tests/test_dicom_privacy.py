"""DICOM out: a patient's name is in the objects and nowhere else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_files import uid
from dicom_series import series_of
from twinvae.commands.app import app
from twinvae.detection.detect import detect_scans
from twinvae.errors import PartialFailureError
from twinvae.runs.folder import Run

TELLING = ("zwiebelkuchen", "kunigunde", "0815", "19340517", "1934-05-17", "acc4711", "20240131")


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
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    export = tmp_path / "Zwiebelkuchen, Kunigunde 1934-05-17" / "mrn0815x_t2"
    name = "Kunigunde Zwiebelkuchen"  # not as the standard has names, which libraries remark on
    form = "enhanced" if kind == "enhanced" else "classic"
    given = series_of(form, abnormal_scan, export, PatientName=name)
    if kind == "broken":
        slices = sorted(given.iterdir())
        slices[3].unlink()
        slices[5].rename(slices[5].with_name("Kunigunde5"))
    name = str(given)
    if kind == "one of two":
        series_of("classic", abnormal_scan, export / "a", series="2", PatientName="Someone^Else")
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
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path
) -> None:
    scans = [
        series_of("classic", abnormal_scan, tmp_path / f"Kunigunde_{n}", series=str(n))
        for n in (1, 2)
    ]
    out = tmp_path / "out"
    first = detect_scans(tiny_run.bundle, scans, out, force=True, dicom=False, threads=1)
    assert len({one.name for one in first}) == 2
    again = detect_scans(tiny_run.bundle, scans[1:], out, force=True, dicom=False, threads=1)
    assert again[0].name == first[1].name
    assert len((out / "summary.tsv").read_text().splitlines()) == 3


def test_what_is_said_to_be_de_identified_keeps_its_name(
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path
) -> None:
    named = tmp_path / "sub-0815X"
    scan = series_of(
        "classic", abnormal_scan, named, PatientID="0815X", PatientIdentityRemoved="YES"
    )
    (one,) = detect_scans(tiny_run.bundle, [scan], tmp_path / "out", force=True, threads=1)
    assert one.name == "sub-0815X"
    assert str(scan) in (tmp_path / "out/summary.tsv").read_text()


def test_a_broken_series_among_others_is_named_without_its_patient(
    tiny_run: Run, abnormal_scan: Path, tmp_path: Path
) -> None:
    bad = series_of("classic", abnormal_scan, tmp_path / "Kunigunde", series="2")
    sorted(bad.iterdir())[3].write_bytes(b"")
    good = series_of("classic", abnormal_scan, tmp_path / "t2")
    with pytest.raises(PartialFailureError, match="1 of 2 scans skipped") as error:
        detect_scans(tiny_run.bundle, [bad, good], tmp_path / "out", force=True, threads=1)
    assert "Kunigunde" not in str(error.value)
