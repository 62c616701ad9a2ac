"""A folder of DICOM studies: one series a study, chosen by its header, and said so."""

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_files import classic, enhanced, uid
from twinvae.cohort import read_manifest
from twinvae.cohort.layouts import index_layout, recognised
from twinvae.commands.app import app
from twinvae.errors import ConfigError, DataError
from twinvae.imaging.scan import ScanFiles, load_scan

AXIAL = np.diag([-1.0, -1.0, 5.0, 1.0])
CUBIC = np.diag([-1.0, -1.0, 1.0, 1.0])
SAGITTAL = np.array([[0, 0, 5.0, 0], [-1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])


def block(slices=6):
    return np.arange(9 * 8 * slices, dtype=np.uint16).reshape(9, 8, slices)


def add(folder, series, affine=AXIAL, slices=6, write=classic, **more):
    name = folder / f"{series}.dcm" if write is enhanced else folder / series
    more = {"StudyInstanceUID": uid("study", folder), "PatientID": folder.parts[-2]} | more
    more["SeriesInstanceUID"] = uid("series", folder, series)
    return write(name, block(slices), affine, series=series, **more)


def index(path, contrast="T2w", layout="auto", **more):
    return index_layout(path, layout, "mixed", "s", contrast, **more)


@pytest.fixture
def clinic(tmp_path):
    """Three patients; the first has everything a head study has, the third came twice."""
    one = tmp_path / "clinic/P1/study"
    add(one, "1", SeriesDescription="localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    add(one, "2", slices=8, SeriesDescription="t2_tse_tra")
    add(one, "3", SAGITTAL, 12, SeriesDescription="t2_tse_sag")
    add(one, "4", slices=30, SeriesDescription="t2_mpr", ImageType=["DERIVED", "SECONDARY", "MPR"])
    add(one, "5", slices=30, SeriesDescription="ep2d_diff_3scan_trace", EchoTime="90")
    add(one, "6", slices=8, SeriesDescription="t2_tirm_tra_dark-fluid", InversionTime="2500")
    add(one, "7", slices=8, SeriesDescription="t1_se_tra", EchoTime="12", RepetitionTime="500")
    gd = {"ContrastBolusAgent": "Gadovist", "EchoTime": "12", "RepetitionTime": "500"}
    add(one, "8", slices=8, SeriesDescription="t1_se_tra", **gd)
    add(one, "9", slices=6, SeriesDescription="t2 again")
    two = tmp_path / "clinic/P2/study"
    add(two, "1", CUBIC, 20, enhanced, SeriesDescription="", AcquisitionContrast="T2")
    for visit, hour in (("a", "09"), ("b", "17")):
        add(
            tmp_path / f"clinic/P3/{visit}", "1", StudyTime=f"{hour}0000", SeriesDescription="ax t2"
        )
    (tmp_path / "clinic/DICOMDIR").write_bytes(b"no")
    (tmp_path / "clinic/readme.txt").write_text("from the archive")
    return tmp_path / "clinic"


def test_auto_recognises_it_and_chooses_by_headers(clinic, capsys):
    assert recognised(clinic) == ["dicom"]
    table = index(clinic)
    rows = table[["subject", "session", "image"]].to_numpy().tolist()
    assert [row[:2] for row in rows] == [
        ["P1", "20240131"], ["P2", "20240131"], ["P3", "20240131"], ["P3", "20240131_2"],
    ]  # fmt: skip
    assert [row[2].removeprefix(f"{clinic}/") for row in rows] == [
        "P1/study/2", "P2/study", "P3/a/1", "P3/b/1",
    ]  # fmt: skip
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "P1 20240131: took series 2 't2_tse_tra', axial, 8 slices, 1 × 5 mm (by its name)" in said
    )
    for left in (
        "'localizer', axial, 6 slices, 1 × 5 mm (localizer)",
        "(sagittal with thick slices)",
        "(MPR)",
        "(diffusion)",
        "(FLAIR)",
        "(T1gd)",
        "'t2 again', axial, 6 slices, 1 × 5 mm (fewer or coarser slices)",
    ):
        assert left in said
    assert "(AcquisitionContrast T2)" in said


@pytest.mark.parametrize(
    ("contrast", "series"), [("FLAIR", "6"), ("T1w", "7"), ("T1gd", "8"), ("t1CE", "8")]
)
def test_other_contrasts_of_the_same_study(clinic, contrast, series):
    table = index(clinic / "P1", contrast)
    assert table["image"].tolist() == [str(clinic / "P1/study" / series)]


def test_a_pattern_overrides_every_rule(clinic, capsys):
    for pattern, series in (("*MPR*", "4"), (uid("series", clinic / "P1/study", "3"), "3")):
        table = index(clinic, series=pattern)
        assert table["image"].tolist() == [str(clinic / "P1/study" / series)]
        assert f"matches '{pattern}'" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(DataError, match=r"matches '\*ciss\*', found .*'t2_tse_tra'"):
        index(clinic, series="*ciss*")
    with pytest.raises(ConfigError, match="layout dicom only, found table"):
        index(clinic / "readme.txt", series="*")
    assert len(index(clinic, series="*T2*")) == 3


def test_series_that_share_a_folder_are_named_by_uid(tmp_path):
    heap = tmp_path / "heap"
    for number in "12":
        data = block() + int(number)
        more = {"SeriesDescription": f"t{number}", "PatientID": None, "StudyDate": None}
        folder = classic(tmp_path / number, data, AXIAL, series=number, **more)
        heap.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.rename(heap / f"{number}-{file.name}")
        folder.rmdir()
    table = index(heap)
    assert table["image"].tolist() == [f"{heap}#{uid('series', '2')}"]
    assert table[["subject", "session"]].to_numpy().tolist() == [["heap", ""]]


def test_the_manifest_written_by_the_command_can_be_read(clinic, tmp_path):
    out = tmp_path / "manifest.tsv"
    for who in ("P4", "P5"):
        add(clinic / who / "study", "1", slices=8, SeriesDescription="T2_tse_tra")
    words = ["index", str(clinic), "--role", "mixed", "--series", "t2*tra", "-o", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    row = read_manifest(out).iloc[0]
    assert load_scan(ScanFiles.from_row(row)).image.shape == (9, 8, 8)


@pytest.mark.parametrize(
    ("header", "contrast"),
    [
        ({"EchoTime": "100"}, "T2w"),
        ({"EchoTime": "120", "InversionTime": "2400", "RepetitionTime": "9000"}, "FLAIR"),
        ({"EchoTime": "12", "RepetitionTime": "500"}, "T1w"),
        ({"EchoTime": "12", "RepetitionTime": "500", "ContrastBolusAgent": "Dotarem"}, "T1gd"),
        ({"EchoTime": "12", "RepetitionTime": "500", "ContrastBolusAgent": "NO"}, "T1w"),
        ({"EchoTime": "3", "RepetitionTime": "8", "ScanningSequence": "GR"}, "T1w"),
        (
            {"EchoTime": "3", "RepetitionTime": "2300", "InversionTime": "900",
             "ScanningSequence": ["GR", "IR"]},
            "T1w",
        ),
        ({"EchoTime": "20"}, "PDw"),
        ({"SeriesDescription": "Ax T2 FLAIR", "EchoTime": None}, "FLAIR"),
        ({"SeriesDescription": "Ax T1 post gad"}, "T1gd"),
        ({"SeriesDescription": "t1_mprage_sag", "EchoTime": "3"}, "T1w"),
    ],
)  # fmt: skip
def test_the_contrast_is_read_from_names_and_times(tmp_path, header, contrast):
    add(tmp_path / "x/P1/s", "1", CUBIC, 8, **{"SeriesDescription": "brain"} | header)
    assert len(index(tmp_path / "x", contrast)) == 1
    other = "T1w" if contrast == "T2w" else "T2w"
    with pytest.raises(DataError, match=f"of contrast {other}, found {contrast}"):
        index(tmp_path / "x", other)


@pytest.mark.parametrize(
    "header",
    [
        {"Modality": "CT"},
        {"ImageType": ["DERIVED", "PRIMARY"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]},
        {"SeriesDescription": "swi t2"},
        {"SeriesDescription": "t2 perf dsc"},
        {"SeriesDescription": "brain", "EchoTime": "50"},
    ],
)
def test_what_is_no_plain_scan_is_left(tmp_path, header):
    add(tmp_path / "x/P1/s", "1", CUBIC, 8, **header)
    with pytest.raises(DataError, match="expected scans of contrast T2w, found no scan"):
        index(tmp_path / "x")


def test_a_series_with_a_hole_is_left_for_a_whole_one(tmp_path, capsys):
    add(tmp_path / "x/P1/s", "1", slices=9, edit=lambda number, ds: number != 4)
    add(tmp_path / "x/P1/s", "2", slices=5)
    assert index(tmp_path / "x")["image"].iloc[0].endswith("/2")
    assert "missing slice" in " ".join(capsys.readouterr().err.split())


def test_a_folder_with_other_images_is_not_taken_for_dicom(tmp_path):
    add(tmp_path / "x/P1/s", "1")
    (tmp_path / "x/P1/scan.nii.gz").touch()
    assert recognised(tmp_path / "x") == []
