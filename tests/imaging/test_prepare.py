"""A cohort into a slice store: parallel, resumable, tolerant of broken scans, never half done."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from small_brain import STEPS, make_brain, save

from twinvae.cohort import read_manifest, write_manifest
from twinvae.cohort.manifest import manifest_table
from twinvae.config import AlignMirror, Reorient, SelectSlices
from twinvae.errors import ConfigError, DataError, StageError
from twinvae.imaging import (
    INDEX_COLUMNS,
    Block,
    ScanFiles,
    SliceStore,
    fit_recipe,
    prepare,
    prepare_cohort,
    prepare_scan,
)


@pytest.fixture
def cohort(tmp_path):
    """A manifest of six small scans, the first three healthy; the fourth has no tumour mask."""
    rows = []
    for i, split in enumerate(["train", "val", "test"] * 2):
        brain, folder = make_brain(i), tmp_path / "scans" / str(i)
        row = {"subject": f"{i:03d}", "source": "s", "split": split}
        row["role"] = "healthy" if i < 3 else "mixed"
        row["image"] = str(save(folder / "image.nii.gz", brain.image, brain.affine))
        row["brain_mask"] = str(save(folder / "brain.nii.gz", brain.mask, brain.affine, "u1"))
        if i > 3:
            mask = save(folder / "tumour.nii.gz", brain.tumour, brain.affine, "u1")
            row["tumour_mask"] = str(mask)
        rows.append(row)
    write_manifest(manifest_table(rows), tmp_path / "manifest.tsv")
    return tmp_path / "manifest.tsv"


def digests(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_store_holds_every_scan_in_the_manifests_order(cohort, tmp_path):
    store = prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1)
    assert sorted(p.name for p in (tmp_path / "slices").iterdir()) == [
        *("brain.npy", "images.npy", "index.tsv", "qc.tsv", "recipe.json"),
        *("scans.tsv", "skipped.tsv", "tumour.npy"),
    ]
    assert store.index["subject"].drop_duplicates().tolist() == [f"{i:03d}" for i in range(6)]
    assert tuple(store.index.columns) == INDEX_COLUMNS
    assert isinstance(store.images, np.memmap)
    assert store.skipped.empty
    assert store.size == 32
    for subject, rows in store.index.groupby("subject"):
        scan = ScanFiles.from_row(
            pd.read_csv(cohort, sep="\t", dtype=str, keep_default_na=False)
            .set_index("subject", drop=False)
            .loc[subject]
        )
        scan = ScanFiles(
            **{
                **vars(scan),
                **{
                    name: getattr(scan, name) and (tmp_path / getattr(scan, name))
                    for name in ("image", "brain_mask", "tumour_mask")
                },
            }
        )
        alone = prepare_scan(scan, store.recipe)
        np.testing.assert_array_equal(store.images[rows.index], alone.images)
        np.testing.assert_array_equal(store.brain[rows.index], alone.brain)
        np.testing.assert_array_equal(store.tumour[rows.index], alone.tumour)
        assert rows.reset_index(drop=True).equals(alone.index.astype(rows.dtypes.to_dict()))
    scans = pd.read_csv(tmp_path / "slices" / "scans.tsv", sep="\t", dtype={"subject": str})
    assert scans["subject"].tolist() == [f"{i:03d}" for i in range(6)]
    assert scans["brain_ml"].between(10, 500).all()


def test_rows_are_selected_by_role_and_split(cohort, tmp_path):
    store = prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1)
    assert len(store.select()) == len(store)
    index = store.index
    rows = store.select(role="mixed", split="val")
    assert index.loc[rows, "subject"].unique().tolist() == ["004"]
    assert len(store.select(role="healthy")) == (index["role"] == "healthy").sum()
    assert (np.diff(store.select(split="train")) > 0).all()
    assert index.loc[index["subject"] == "003", "tumour_px"].isna().all()
    assert index.loc[store.select(role="healthy"), "tumour_px"].eq(0).all()
    assert index.loc[index["subject"] == "005", "tumour_px"].max() > 10


def test_processes_do_not_change_the_bytes(cohort, tmp_path):
    prepare_cohort(cohort, STEPS, tmp_path / "one", jobs=1)
    prepare_cohort(cohort, STEPS, tmp_path / "two", jobs=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


_KILLED = """
import os, sys, time
from pathlib import Path
from twinvae.imaging import prepare
from twinvae.imaging.fitted_recipe import FittedRecipe
from twinvae.files import read_json

DIE = False
slow = prepare.prepare_scan
def prepare_scan(scan, recipe):
    time.sleep(0.15)
    if DIE and scan.image.parent.name == "3":
        os._exit(9)
    return slow(scan, recipe)
prepare.prepare_scan = prepare_scan

if __name__ == "__main__":
    manifest, recipe, out, jobs = sys.argv[1:]
    steps = FittedRecipe.read(Path(recipe)).steps
    prepare.prepare_cohort(Path(manifest), steps, Path(out), jobs=int(jobs))
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(cohort, tmp_path, jobs):
    prepare_cohort(cohort, STEPS, tmp_path / "whole", jobs=1)
    out, script = tmp_path / "killed", tmp_path / "script.py"
    script.write_text(_KILLED)
    command = [sys.executable, script, cohort, tmp_path / "whole" / "recipe.json", out, str(jobs)]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(out.glob("parts/*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(out.glob("parts/*.npz")))
    assert 2 <= done < 6
    with pytest.raises(StageError, match=r"found no index\.tsv; run prepare"):
        SliceStore.open(out)
    _wait_until_gone(process.pid)
    calls = []
    original = prepare.prepare_scan
    prepare.prepare_scan = lambda scan, recipe: (calls.append(scan), original(scan, recipe))[1]
    try:
        left = 6 - len(list(out.glob("parts/*.npz")))
        prepare_cohort(cohort, STEPS, out, jobs=1)
    finally:
        prepare.prepare_scan = original
    assert len(calls) == left < 6
    assert digests(out) == digests(tmp_path / "whole")


def _wait_until_gone(group):
    """Workers must not outlive a killed parent."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("a worker outlived its parent")


def test_a_scan_that_takes_its_process_down_costs_no_other(cohort, tmp_path):
    recipe, script = tmp_path / "recipe.json", tmp_path / "script.py"
    recipe.write_text(json.dumps(fit_recipe(STEPS).to_json()))
    script.write_text(_KILLED.replace("DIE = False", "DIE = True"))
    command = [sys.executable, script, cohort, recipe, tmp_path / "out", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    skipped = SliceStore.open(tmp_path / "out").skipped
    assert [image.split("/")[-2] for image in skipped["image"]] == ["3"]
    assert "the process that worked on it died" in skipped["reason"].iloc[0]


def test_parts_of_another_recipe_or_another_file_are_not_reused(cohort, tmp_path):
    scan = ScanFiles("x", tmp_path / "scans/0/image.nii.gz")
    recipe = fit_recipe(STEPS)
    path = prepare.part_path(tmp_path, scan, recipe)
    assert path == prepare.part_path(tmp_path, scan, recipe)
    assert path != prepare.part_path(tmp_path, scan, fit_recipe(STEPS[1:]))
    os.utime(scan.image, (1, 1))
    assert path != prepare.part_path(tmp_path, scan, recipe)


def break_scan(tmp_path, number):
    path = tmp_path / "scans" / str(number) / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_broken_scan_is_skipped_and_reported(cohort, tmp_path, jobs):
    break_scan(tmp_path, 1)
    (tmp_path / "scans" / "4" / "tumour.nii.gz").unlink()
    store = prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=jobs)
    assert store.index["subject"].nunique() == 4
    assert store.skipped["subject"].tolist() == ["001", "004"]
    assert store.skipped["reason"].str.contains("damage|no such file").all()
    again = SliceStore.open(tmp_path / "slices")
    assert again.skipped.equals(store.skipped)
    assert len(again) == len(store)


def test_strict_makes_a_broken_scan_fatal(cohort, tmp_path):
    break_scan(tmp_path, 2)
    with pytest.raises(DataError, match=r"scans/2/image\.nii\.gz: .*damage"):
        prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1, strict=True)
    assert not (tmp_path / "slices" / "index.tsv").exists()


def test_a_scan_that_trips_a_bug_is_reported_too(cohort, tmp_path, monkeypatch):
    def odd(scan, recipe):
        if scan.subject == "000":
            raise ZeroDivisionError("how odd")
        return prepare_scan(scan, recipe)

    monkeypatch.setattr(prepare, "prepare_scan", odd)
    store = prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1)
    assert store.skipped["reason"].str.contains("ZeroDivisionError: how odd").tolist() == [True]


def test_all_scans_broken_is_an_error_and_leaves_nothing(cohort, tmp_path):
    for number in range(6):
        break_scan(tmp_path, number)
    with pytest.raises(DataError, match="none of its 6 scans can be prepared\n  /"):
        prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1)
    assert not (tmp_path / "slices").exists()


def test_what_cannot_work_is_refused_before_anything_is_written(cohort, tmp_path):
    table = pd.read_csv(cohort, sep="\t", dtype=str, keep_default_na=False)
    table.loc[3, "split"] = ""
    table.to_csv(tmp_path / "unsplit.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match=r"found none for subject 003 \(1 scans\); run index"):
        prepare_cohort(tmp_path / "unsplit.tsv", STEPS, tmp_path / "slices")
    with pytest.raises(ConfigError, match="crop_resize as the last step"):
        prepare_cohort(cohort, [Reorient()], tmp_path / "slices")
    with pytest.raises(DataError, match=r"gone\.tsv: no such file"):
        prepare_cohort(tmp_path / "gone.tsv", STEPS, tmp_path / "slices")
    assert not (tmp_path / "slices").exists()


def test_a_new_run_replaces_an_old_store(cohort, tmp_path):
    first = prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1)
    break_scan(tmp_path, 0)
    second = prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1)
    assert len(second) < len(first)
    assert len(SliceStore.open(tmp_path / "slices").skipped) == 1


@pytest.fixture
def store(cohort, tmp_path):
    return prepare_cohort(cohort, STEPS, tmp_path / "slices", jobs=1)


def _rewrite(path, change):
    array = np.load(path)
    np.save(path, change(array))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda d: (d / "images.npy").unlink(), r"images\.npy: expected an array, found"),
        (lambda d: (d / "brain.npy").write_bytes(b"x"), r"brain\.npy: expected an array, found"),
        (lambda d: _rewrite(d / "images.npy", lambda a: a[:-1]), r"slices of .* found \("),
        (lambda d: _rewrite(d / "tumour.npy", lambda a: a[:, 1:]), r"tumour\.npy: expected \d+"),
        (lambda d: _rewrite(d / "brain.npy", lambda a: a.astype("f4")), "expected uint8, found"),
        (lambda d: (d / "index.tsv").write_text("subject\n1\n"), "missing the columns session"),
        (lambda d: (d / "index.tsv").write_text(""), "found an empty file"),
    ],
)
def test_a_store_that_does_not_fit_together(store, harm, message):
    harm(store.folder)
    with pytest.raises(StageError, match=message):
        SliceStore.open(store.folder)


def test_an_index_of_words_is_refused(store):
    text = (store.folder / "index.tsv").read_text().replace("\t2.0\t", "\ttwo\t", 1)
    (store.folder / "index.tsv").write_text(text)
    with pytest.raises(StageError, match="expected numbers as spacing_mm"):
        SliceStore.open(store.folder)


def test_a_failed_write_leaves_the_old_store_alone(store):
    before = digests(store.folder)
    block = Block(store.images, store.brain, store.tumour, store.index)
    with pytest.raises(ValueError, match="expected 1000 slices, found"):
        SliceStore.write(store.folder, [block], slices=1000, size=32)
    assert digests(store.folder) == before


def test_a_store_written_by_hand(store, tmp_path):
    block = Block(store.images[:5], store.brain[:5], store.tumour[:5], store.index[:5])
    hand = SliceStore.write(tmp_path / "hand", [block, block], slices=10, size=32)
    assert len(hand) == 10
    np.testing.assert_array_equal(hand.images[5:], store.images[:5])
    assert hand.index[:5].equals(store.index[:5])


ALIGNED = (*STEPS, AlignMirror(deform=False))


@pytest.fixture
def aligned(cohort, tmp_path):
    return prepare_cohort(cohort, ALIGNED, tmp_path / "slices", jobs=1)


def test_the_aligned_mirror_image_is_stored_beside_the_slices(cohort, aligned, store):
    """`store` was made after `aligned`, in the same folder."""
    assert store.mirror is None
    assert not (store.folder / "mirror.npy").exists()
    again = prepare_cohort(cohort, ALIGNED, store.folder, jobs=1)
    assert again.mirror.dtype == np.uint16
    np.testing.assert_array_equal(again.images, store.images)
    scans = [ScanFiles.from_row(row) for _, row in read_manifest(cohort).iterrows()]
    for scan in scans[:2]:
        mine = prepare_scan(scan, again.recipe)
        rows = np.flatnonzero(again.index["subject"] == scan.subject)
        np.testing.assert_array_equal(again.mirror[rows], mine.mirror)
        assert mine.mirror.any()
        assert not mine.mirror[mine.brain == 0].any()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda d: (d / "mirror.npy").unlink(), r"mirror\.npy: expected an array, found"),
        (lambda d: (d / "mirror.npy").write_bytes(b"x"), r"mirror\.npy: expected an array, found"),
        (lambda d: _rewrite(d / "mirror.npy", lambda a: a[:-1]), r"mirror\.npy: expected \d+"),
        (lambda d: _rewrite(d / "mirror.npy", lambda a: a.astype("f4")), "expected uint16, found"),
    ],
)
def test_a_mirror_image_that_does_not_fit_is_refused(aligned, harm, message):
    harm(aligned.folder)
    with pytest.raises(StageError, match=message):
        SliceStore.open(aligned.folder)


def test_slices_without_brain_may_be_kept_beside_a_mirror_image(put, brain):
    steps = (*STEPS[:3], SelectSlices(keep="all"), STEPS[-1], AlignMirror())
    mine = prepare_scan(put(brain), fit_recipe(steps))
    assert len(mine.mirror) == brain.image.shape[2]
    assert not mine.mirror[mine.brain.max(axis=(1, 2)) == 0].any()


def test_workers_do_not_import_torch(cohort):
    code = "import sys, twinvae.imaging, twinvae.cohort; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
