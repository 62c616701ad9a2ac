"""The manifest: what it keeps, and every way it can be wrong."""

import re

import pytest

from twinvae.cohort import read_manifest, write_manifest
from twinvae.cohort.manifest import COLUMNS, OPTIONAL, manifest_table
from twinvae.errors import DataError


@pytest.fixture
def rows(touch):
    a, b, mask = touch("scans/a.nii.gz", "scans/b.nii.gz", "masks/b.nii.gz")
    return [
        {"subject": "001", "source": "s", "role": "healthy", "image": str(a), "split": "train"},
        {
            "subject": "NA",
            "session": "1",
            "source": "s",
            "role": "mixed",
            "image": str(b),
            "tumour_mask": str(mask),
            "split": "",
        },
    ]


def test_round_trip_keeps_every_cell_and_writes_relative_paths(rows, tmp_path):
    path = tmp_path / "deep" / "manifest.tsv"
    write_manifest(manifest_table(rows), path)
    text = path.read_text()
    assert str(tmp_path) not in text
    assert "../scans/a.nii.gz" in text
    back = read_manifest(path)
    assert text.splitlines()[0].split("\t") == list(COLUMNS)  # an optional one only where used
    assert list(back.columns) == [*COLUMNS, *OPTIONAL]
    assert back.to_dict("records") == manifest_table(rows).to_dict("records")
    assert back["subject"].tolist() == ["001", "NA"]  # neither a number nor a missing value


def test_a_moved_folder_still_reads(rows, tmp_path, touch):
    write_manifest(manifest_table(rows), tmp_path / "scans" / "manifest.tsv")
    assert (tmp_path / "scans" / "manifest.tsv").read_text().splitlines()[1].split("\t")[4] == (
        "a.nii.gz"
    )


def _changed(rows, **change):
    return manifest_table([rows[0], {**rows[1], **change}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "sick"}, "expected role one of healthy, mixed, found 'sick'"),
        ({"role": ""}, "expected role one of healthy, mixed, found ''"),
        ({"split": "dev"}, "expected split one of train, val, test, (empty), found 'dev'"),
        ({"subject": ""}, "expected a value for subject, found none"),
        ({"image": ""}, "expected a value for image, found none"),
        ({"brain_mask": "/nowhere/m.nii.gz"}, "brain_mask /nowhere/m.nii.gz: no such file"),
        ({"subject": "001", "split": "test"}, "subject 001 of source s: expected all its scans"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(rows, tmp_path, change, message):
    with pytest.raises(DataError, match=re.escape(message)):
        write_manifest(_changed(rows, **change), tmp_path / "m" / "manifest.tsv")
    assert not (tmp_path / "m").exists()


def test_a_subject_in_two_splits_is_refused_on_reading_too(rows, tmp_path):
    path = tmp_path / "manifest.tsv"
    _changed(rows, subject="001", split="val").to_csv(path, sep="\t", index=False)
    with pytest.raises(DataError, match="found train and val"):
        read_manifest(path)


def test_the_same_name_in_another_source_is_another_person(rows, tmp_path):
    table = _changed(rows, subject="001", source="other", split="test")
    write_manifest(table, tmp_path / "manifest.tsv")
    assert read_manifest(tmp_path / "manifest.tsv")["split"].tolist() == ["train", "test"]


def test_a_scan_listed_twice_is_refused(rows, tmp_path):
    with pytest.raises(DataError, match=r"scan 2 .*expected each scan once"):
        write_manifest(manifest_table([rows[0], rows[0]]), tmp_path / "manifest.tsv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject\timage\nx\ty\n", "missing session source role"),
        ("\t".join(COLUMNS) + "\n", "expected at least one scan, found no rows"),
        ("", "found an empty file"),
        ("subject\tsubject\n1\t2\n", "expected each column once, found again subject"),
        (
            "\t".join(COLUMNS) + "\n" + "x\t" * 12 + "\n",
            "UTF-8, found .*Expected 8 fields",
        ),
    ],
)
def test_a_file_that_is_no_manifest(tmp_path, text, message):
    path = tmp_path / "manifest.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_manifest(path)


def test_missing_or_binary_manifests(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_manifest(tmp_path / "none.tsv")
    with pytest.raises(DataError, match="expected a table, found a folder"):
        read_manifest(tmp_path)
    (tmp_path / "bin.tsv").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"bin\.tsv"):
        read_manifest(tmp_path / "bin.tsv")


def test_files_need_not_exist_when_the_reader_will_say_so(rows, tmp_path):
    path = tmp_path / "manifest.tsv"
    write_manifest(manifest_table(rows), path)
    (tmp_path / "scans" / "a.nii.gz").unlink()
    with pytest.raises(DataError, match=r"a\.nii\.gz: no such file \(1 missing in all\)"):
        read_manifest(path)
    assert len(read_manifest(path, check_files=False)) == 2
