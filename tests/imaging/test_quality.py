"""Every flag is raised by what it is for, and not by a sound cohort."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from cohort_of_six import break_scan, write_six
from small_brain import STEPS, make_brain, save

from twinvae.cohort.manifest import manifest_table, write_manifest
from twinvae.imaging import Volume, prepare_cohort, quality, read_volume, write_volume
from twinvae.imaging.quality import (
    FLAGS,
    check_cohort,
    flag_counts,
    flag_scans,
    leaks,
    read_flags,
    robust_z,
)
from twinvae.imaging.volume import content_hash


def fact(number=0, **more):
    usual = {
        "subject": f"{number:02d}", "source": "s", "split": "train", "brain_ml": 1400.0 + number,
        "area_cm2": 170.0, "spacing_x_mm": 1.0, "spacing_y_mm": 1.0, "spacing_z_mm": 1.0,
        "top_value": 900.0, "top_voxels": 1.0, "top_share": 1e-6, "handedness": 1.0,
        "qform_code": 1.0, "sform_code": 0.0, "tumour_voxels": 100.0,
        "tumour_in_background": 1.0, "tumour_outside_brain": 1.0, "content": f"c{number}",
    }  # fmt: skip
    return usual | more


def test_a_sound_cohort_has_no_flag():
    table = flag_scans(fact(i) for i in range(8))
    assert (table["flags"] == "").all()
    assert flag_counts(table) == {}


@pytest.mark.parametrize(
    ("odd", "flags", "why"),
    [
        ({"brain_ml": 800.0}, "brain_volume", "800 ml, typical 140"),
        ({"brain_ml": 100.0}, "brain_volume", "of no human brain"),
        ({"area_cm2": 260.0}, "brain_area", "260 cm², typical 170"),
        ({"spacing_z_mm": 5.0}, "spacing", "1×1×5 mm, the source's are 1×1×1"),
        ({"spacing_x_mm": 4.0}, "spacing", "4×1×1 mm are not square"),
        ({"spacing_x_mm": 0.001, "spacing_y_mm": 0.001}, "spacing", "wrong unit"),
        ({"top_voxels": 5000.0, "top_share": 0.003}, "clipped", "5000 voxels (0.30%)"),
        ({"top_value": 32767.0}, "clipped", "at the top value 32767"),
        ({"handedness": -1.0}, "left_right", "mirror image of the source's other scans"),
        ({"qform_code": 0.0}, "left_right", "neither qform nor sform"),
        ({"forms_apart_mm": 180.0, "forms_mirror": 1.0}, "left_right", "mirror images"),
        ({"forms_apart_mm": 7.5}, "left_right", "7.5 mm apart"),
        ({"tumour_voxels": 0.0}, "tumour_empty", "without a voxel"),
        ({"tumour_outside_brain": 50.0}, "tumour_outside", "50.0% outside the brain"),
        ({"tumour_in_background": 30.0}, "tumour_outside", "30.0% on 0"),
        ({"tumour_turn": "dull, but bright"}, "tumour_turned", "tumour mask: dull, but bright"),
        ({"content": "c1"}, "duplicate", "same voxels as s/01 (train)"),
        ({"content": "c1", "split": "test"}, "duplicate_across_splits", "s/01 (train)"),
        ({"failed": "unreadable", "why": "gone\n\tfile"}, "unreadable", "gone file"),
    ],
)
def test_each_flag(odd, flags, why):
    table = flag_scans([*(fact(i) for i in range(7)), fact(7, **odd)])
    assert table["flags"][7] == flags
    assert why in table["why"][7]
    others = table["flags"][:7]
    twin = flags if flags.startswith("duplicate") else ""
    assert others.tolist() == ["", twin, *[""] * 5]
    assert set(flags.split(",")) <= set(FLAGS)


def test_a_scanner_of_another_source_is_not_odd():
    rows = [fact(i) for i in range(6)]
    rows += [fact(i + 10, source="t", spacing_z_mm=5.0, handedness=-1.0) for i in range(6)]
    assert (flag_scans(rows)["flags"] == "").all()


def test_several_flags_come_worst_first_and_leaks_are_named():
    rows = [fact(0), fact(1, content="c0", split="test", tumour_voxels=0.0)]
    table = flag_scans(rows)
    assert table["flags"][1] == "duplicate_across_splits,tumour_empty"
    assert list(flag_counts(table)) == ["duplicate_across_splits", "tumour_empty"]
    assert leaks(table) == [
        "s/00 (train) is also s/01 (test)",
        "s/01 (test) is also s/00 (train)",
    ]


def test_robust_z_against_its_definition():
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(1400, 120, 400), np.nan)
    z = robust_z(values)
    known = values[:-1]
    mad = np.median(np.abs(known - np.median(known)))
    np.testing.assert_allclose(z[:-1], 0.6745 * (known - np.median(known)) / mad, rtol=1e-4)
    assert np.isnan(z[-1])
    assert np.isnan(robust_z(values[:4])).all()


def test_content_is_the_same_however_a_volume_is_stored(tmp_path):
    brain = make_brain()
    data = brain.image.astype(np.float32)
    wanted = content_hash(data)
    assert content_hash(np.asfortranarray(data)) == wanted
    assert content_hash(data[::-1, :, ::-1]) == wanted
    assert content_hash(np.ascontiguousarray(data.transpose(2, 0, 1))) == wanted
    assert content_hash(np.pad(data, 3)) == wanted
    negative_zero = np.where(data == 0, np.float32(-0.0), data)
    assert content_hash(negative_zero) == wanted
    for name in ("a.nii", "a.nii.gz", "a.mha", "a.nrrd"):
        write_volume(Volume(data, brain.affine @ np.diag([-1, 1, 1, 1])), tmp_path / name)
        assert content_hash(read_volume(tmp_path / name).data) == wanted, name
    changed = data.copy()
    changed[18, 20, 11] += 1
    moved = data.copy()
    moved[18, 20, 11], moved[18, 24, 11] = data[18, 24, 11], data[18, 20, 11]
    assert data[18, 24, 11] != data[18, 20, 11]
    assert len({content_hash(v) for v in (data, changed, moved)}) == 3


def one_of_each(folder):
    """Six sound scans, then: a copy in another format and split, an empty mask, a broken file."""
    manifest = write_six(folder)
    table = pd.read_csv(manifest, sep="\t", dtype=str, keep_default_na=False)
    copy = make_brain(4)
    write_volume(Volume(copy.image.astype(np.float32), copy.affine), folder / "copy.mha")
    rows = table.to_dict("records")
    rows.append({**rows[4], "subject": "copy", "image": "copy.mha", "split": "test"})
    for row in rows:
        for name in ("image", "brain_mask", "tumour_mask"):
            row[name] = row[name] and str(folder / row[name])
    empty = make_brain(5)
    save(folder / "scans/5/tumour.nii.gz", 0 * empty.tumour, empty.affine, "u1")
    write_manifest(manifest_table(rows), manifest)
    break_scan(folder, 0)
    return manifest


@pytest.mark.parametrize("jobs", [1, 2])
def test_check_finds_them_without_preparing(tmp_path, jobs):
    table = check_cohort(one_of_each(tmp_path), jobs=jobs).set_index("subject")
    flags = {name: set(value.split(",")) - {"brain_volume"} for name, value in
             table["flags"].items()}  # fmt: skip  # the small brain is of no human
    assert flags["000"] == {"unreadable"}
    assert "damage" in table.loc["000", "why"]
    assert flags["004"] == flags["copy"] == {"duplicate_across_splits"}
    assert table.loc["copy", "duplicate_of"] == "s/004 (val)"
    assert flags["005"] == {"tumour_empty"}
    assert flags["001"] == flags["002"] == flags["003"] == set()
    assert table.loc["002", "brain_ml"] == pytest.approx(make_brain(2).mask.sum() * 12e-3)


def test_prepare_writes_the_same_flags_and_drops_nothing_for_them(tmp_path):
    manifest = one_of_each(tmp_path)
    store = prepare_cohort(manifest, STEPS, tmp_path / "slices", jobs=1)
    written = read_flags(tmp_path / "slices" / "qc.tsv").set_index("subject")
    checked = check_cohort(manifest, jobs=1).set_index("subject")
    assert written.loc["000", "flags"] == "not_prepared"
    assert written["flags"][1:].tolist() == checked["flags"][1:].tolist()
    assert written["content"][1:].tolist() == checked["content"][1:].tolist()
    assert store.index["subject"].nunique() == 6


def test_headers_that_disagree_about_left_and_right(put):
    scan = put(make_brain(), brain_mask=False, tumour=False)
    image = nib.load(scan.image)
    mirrored = np.diag([-1, 1, 1, 1]) @ image.affine
    image.set_qform(mirrored, code=1)
    nib.save(image, scan.image.with_name("odd.nii"))
    odd = replace(scan, image=scan.image.with_name("odd.nii"))
    manifest = scan.image.with_name("m.tsv")
    row = {"subject": "x", "source": "s", "role": "mixed", "image": str(odd.image)}
    write_manifest(manifest_table([row]), manifest)
    (flags,) = check_cohort(manifest, jobs=1)["why"]
    assert "qform and sform are mirror images" in flags


def test_a_head_without_a_brain_mask_is_said_not_to_be_preparable(put):
    brain = make_brain()
    head = replace(brain, image=brain.image + 50)
    scan = put(head, brain_mask=False, tumour=False)
    manifest = scan.image.with_name("m.tsv")
    row = {"subject": "x", "source": "s", "role": "mixed", "image": str(scan.image)}
    write_manifest(manifest_table([row]), manifest)
    assert check_cohort(manifest, jobs=1)["flags"].tolist() == ["no_brain"]


def test_many_copies_are_named_by_their_first_and_in_time_with_their_number(monkeypatch):
    named = []
    monkeypatch.setattr(quality, "_name", lambda row: named.append(row) or row["subject"])
    table = flag_scans(fact(i, content="same") for i in range(60))
    assert table["duplicate_of"][0] == "01, 02, 03 and 56 more"
    assert table["duplicate_of"][2] == "00, 01, 03 and 56 more"
    assert table["duplicate_of"][59] == "00, 01, 02 and 56 more"
    assert len(named) <= 60
