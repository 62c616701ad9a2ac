"""Masks whose header alone is wrong: refused by default, repaired when told, checked by content."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from small_brain import STEPS, Brain, make_brain, save
from typer.testing import CliRunner

from twinvae.cohort import read_manifest, write_manifest
from twinvae.cohort.manifest import manifest_table
from twinvae.commands.app import app
from twinvae.detection.detect import detect_scans
from twinvae.detection.recalibrate import Site, calibrate_on_site
from twinvae.errors import DataError
from twinvae.imaging import (
    ScanFiles,
    SliceStore,
    fit_recipe,
    prepare_cohort,
    prepare_scan,
    read_brain_mask,
    read_tumour_mask,
    read_volume,
)
from twinvae.imaging.quality import check_cohort
from twinvae.imaging.scan import brighter_turn
from twinvae.runs.folder import Run


def elsewhere(affine: np.ndarray) -> np.ndarray:
    """The same grid with the sign of its origin along y flipped, as in a real BraTS-17 mask."""
    moved = affine.copy()
    moved[1, 3] *= -1
    return moved


def put(folder: Path, brain: Brain, affine: np.ndarray, *, mask=None, tumour=None) -> ScanFiles:
    """A scan with masks whose headers say ``affine``."""
    return ScanFiles(
        "s",
        save(folder / "image.nii.gz", brain.image, brain.affine),
        role="mixed",
        brain_mask=save(folder / "brain.nii.gz", brain.mask if mask is None else mask, affine),
        tumour_mask=save(
            folder / "tumour.nii.gz", brain.tumour if tumour is None else tumour, affine
        ),
    )


@pytest.mark.parametrize("read", [read_brain_mask, read_tumour_mask])
def test_the_refusal_names_the_repair_and_the_repair_works(tmp_path: Path, read) -> None:
    brain = make_brain()
    files = put(tmp_path, brain, elsewhere(brain.affine))
    like, path = read_volume(files.image), files.brain_mask
    with pytest.raises(DataError, match=r"82 mm apart.*--trust-grid.*column trust_grid"):
        read(path, like)
    assert (read(path, like, trust_grid=True) == brain.mask).all()


def test_another_shape_or_voxel_size_is_refused_all_the_same(tmp_path: Path) -> None:
    brain = make_brain()
    like = read_volume(save(tmp_path / "image.nii.gz", brain.image, brain.affine))
    coarse = save(tmp_path / "coarse.nii.gz", brain.mask, brain.affine @ np.diag([2, 2, 2, 1]))
    with pytest.raises(DataError, match=r"voxels of 4 × 4 × 6 mm where the scan's are 2 × 2 × 3"):
        read_brain_mask(coarse, like, trust_grid=True)
    with pytest.raises(DataError, match="expected the scan's affine") as plain:
        read_brain_mask(coarse, like)
    assert "--trust-grid" not in str(plain.value)  # it would not help
    cut = save(tmp_path / "cut.nii.gz", brain.mask[1:], brain.affine)
    with pytest.raises(DataError, match="expected the scan's shape"):
        read_brain_mask(cut, like, trust_grid=True)


def test_index_prepare_and_check_carry_the_trust(tmp_path: Path) -> None:
    """From a table through the manifest to the slices: the same as with a right header."""
    rows = []
    for number, split in enumerate(("train", "val", "test")):
        brain = make_brain(number)
        for kind, affine in (("right", brain.affine), ("wrong", elsewhere(brain.affine))):
            put(tmp_path / kind / str(number), brain, affine)
        rows.append(
            f"{number},{number}/image.nii.gz,{number}/brain.nii.gz,{number}/tumour.nii.gz,{split}"
        )
    table = "\n".join(["subject,image,brain_mask,tumour_mask,split", *rows])
    stores = {}
    for kind, flags in (("right", []), ("wrong", []), ("trusted", ["--trust-grid"])):
        folder = tmp_path / ("wrong" if kind == "trusted" else kind)
        (folder / "scans.csv").write_text(table)
        manifest = folder / f"{kind}.tsv"
        done = CliRunner().invoke(
            app,
            ["index", str(folder / "scans.csv"), "--role", "mixed", "-o", str(manifest), *flags],
        )
        assert done.exit_code == 0, done.output
        assert ("trust_grid" in manifest.read_text().splitlines()[0]) == bool(flags)
        flagged = check_cohort(manifest, jobs=1)
        if kind == "wrong":
            assert set(flagged["flags"]) == {"unreadable"}
            assert flagged["why"].str.contains("--trust-grid").all()
            with pytest.raises(DataError, match="trust_grid"):
                prepare_cohort(manifest, STEPS, tmp_path / kind / "slices", jobs=1)
            continue
        assert not flagged["flags"].str.contains("unreadable|tumour").any()
        stores[kind] = prepare_cohort(manifest, STEPS, tmp_path / kind / "slices", jobs=1)
    for name in ("images", "brain", "tumour"):
        assert (getattr(stores["right"], name) == getattr(stores["trusted"], name)).all()
    pd.testing.assert_frame_equal(
        stores["right"].index.drop(columns="source"), stores["trusted"].index.drop(columns="source")
    )
    assert stores["trusted"].index["tumour_px"].sum() > 0


def test_the_manifests_column_is_by_row_and_prepare_sees_it_change(tmp_path: Path) -> None:
    rows = []
    for number, split in enumerate(("train", "val", "test")):
        brain = make_brain(number)
        files = put(tmp_path / str(number), brain, elsewhere(brain.affine))
        rows.append({
            "subject": str(number), "source": "s", "role": "mixed", "split": split,
            "image": str(files.image), "brain_mask": str(files.brain_mask),
            "trust_grid": "yes" if number != 1 else "no",
        })  # fmt: skip
    manifest = tmp_path / "manifest.tsv"
    write_manifest(manifest_table(rows), manifest)
    assert read_manifest(manifest)["trust_grid"].tolist() == ["yes", "no", "yes"]
    first = prepare_cohort(manifest, STEPS, tmp_path / "slices", jobs=1)
    assert first.index["subject"].unique().tolist() == ["0", "2"]
    text = manifest.read_text().replace("\tno\n", "\tyes\n")
    manifest.write_text(text)
    assert (
        prepare_cohort(manifest, STEPS, tmp_path / "slices", jobs=1).index["subject"].nunique() == 3
    )
    manifest.write_text(text.replace("\tyes\n", "\tperhaps\n"))
    with pytest.raises(
        DataError, match=r"expected trust_grid one of yes, no, \(empty\), found 'perh"
    ):
        read_manifest(manifest)


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        ((2,), "top and bottom"),
        ((1,), "front and back"),
        ((1, 2), "front and back, top and bottom"),
    ],
)
def test_a_trusted_tumour_mask_outside_the_brain_is_refused_by_its_turn(
    tmp_path: Path, axes: tuple[int, ...], named: str
) -> None:
    """The mask fits when turned back: the header was right, and the trust is wrong."""
    brain = make_brain()
    room = [(0, 0), (0, 30), (0, 24)]  # the brain lies to one side of the grid
    image, mask = np.pad(brain.image, room), np.pad(brain.mask, room)
    tumour = np.flip(np.pad(brain.tumour, room), axes)
    whole = Brain(image, mask, tumour, brain.affine)
    files = put(tmp_path, whole, elsewhere(brain.affine))
    trusted = ScanFiles(**{**vars(files), "trust_grid": True})
    with pytest.raises(
        DataError, match=rf"tumour.*found 0% of it there; with {named} exchanged 100%"
    ):
        prepare_scan(trusted, fit_recipe(STEPS))


@pytest.mark.parametrize("axis", [1, 2])
def test_a_trusted_brain_mask_beside_the_head_is_refused(tmp_path: Path, axis: int) -> None:
    brain = make_brain()
    room = [(0, 0), (0, 30), (0, 24)]
    image, mask = np.pad(brain.image, room), np.pad(brain.mask, room)
    whole = Brain(image, mask, np.zeros_like(mask), brain.affine)
    wrong = put(tmp_path, whole, elsewhere(brain.affine), mask=np.flip(mask, axis))
    with pytest.raises(
        DataError, match=r"brain\.nii\.gz: .*lies in the head, found 0%.*exchanged 100%"
    ):
        prepare_scan(ScanFiles(**{**vars(wrong), "trust_grid": True}), fit_recipe(STEPS))
    right = put(tmp_path / "right", whole, elsewhere(brain.affine))
    prepare_scan(ScanFiles(**{**vars(right), "trust_grid": True}), fit_recipe(STEPS))


def test_a_mask_on_dark_tissue_whose_mirror_image_is_bright_is_flagged(tmp_path: Path) -> None:
    brain = make_brain()
    rng = np.random.default_rng(0)
    image = np.where(brain.mask, 400 + 20 * rng.normal(size=brain.mask.shape), 0)
    x = np.arange(brain.mask.shape[0])
    lesion = brain.mask & (abs(x - 25) < 4)[:, None, None]
    image = image + 150 * lesion
    right = np.flip(lesion, 0) & brain.mask
    assert brighter_turn(lesion, brain.mask, image) == ""
    said = brighter_turn(right, brain.mask, image)
    assert "with left and right exchanged it would be bright" in said
    assert brighter_turn(right, brain.mask, 800 - image) == ""  # T1w: dark lesions say nothing
    rows = []
    for name, mask in (("as it is", lesion), ("mirrored", right)):
        place = tmp_path / name
        rows.append({
            "subject": name, "source": "s", "role": "mixed", "split": "test",
            "image": str(save(place / "i.nii.gz", image, brain.affine, np.float32)),
            "tumour_mask": str(save(place / "t.nii.gz", mask, brain.affine, np.uint8)),
        })  # fmt: skip
    write_manifest(manifest_table(rows), tmp_path / "manifest.tsv")
    table = check_cohort(tmp_path / "manifest.tsv", jobs=1).set_index("subject")
    assert "tumour_turned" not in table["flags"]["as it is"]
    assert "tumour_turned" in table["flags"]["mirrored"]
    assert "left and right exchanged" in table["why"]["mirrored"]


def test_detect_with_a_mask_whose_header_is_wrong(tiny_run: Run, tmp_path: Path) -> None:
    scan = next((tiny_run.folder / "cohort/mixed").glob("sub-*/anat/*_T2w.nii.gz"))
    subject = scan.name.split("_")[0]
    mask = next(
        (tiny_run.folder / "cohort/mixed/derivatives").rglob(f"{subject}*brain_mask.nii.gz")
    )
    image = nib.load(mask)
    wrong = save(tmp_path / "mask.nii.gz", np.asarray(image.dataobj), elsewhere(image.affine), "u1")
    with pytest.raises(DataError, match="--trust-grid"):
        detect_scans(tiny_run.bundle, [scan], tmp_path / "no", brain_masks=[wrong], threads=1)
    (right,) = detect_scans(tiny_run.bundle, [scan], tmp_path / "a", brain_masks=[mask], threads=1)
    arguments = ["detect", str(tiny_run.bundle), str(scan), "--brain-mask", str(wrong), "--threads",
                 "1", "-o", str(tmp_path / "b")]  # fmt: skip
    done = CliRunner().invoke(app, [*arguments, "--trust-grid"])
    assert done.exit_code == 0, done.output
    mine = pd.read_csv(tmp_path / "b" / right.name / "slices.tsv", sep="\t")
    pd.testing.assert_frame_equal(
        mine, pd.read_csv(tmp_path / "a" / right.name / "slices.tsv", sep="\t")
    )


def test_calibrate_on_a_site_whose_masks_have_wrong_headers(tiny_run: Run, tmp_path: Path) -> None:
    index = SliceStore.open(tiny_run.slices).index
    val = index[(index["role"] == "healthy") & (index["split"] == "val")]["subject"].unique()
    lines = ["subject,image,brain_mask"]
    for subject in val:
        cohort = tiny_run.folder / "cohort/healthy"
        scan = next(cohort.glob(f"*{subject}/anat/*_T2w.nii.gz"))
        shutil.copyfile(scan, tmp_path / scan.name)
        mask = nib.load(next((cohort / "derivatives").rglob(f"*{subject}*brain_mask.nii.gz")))
        name = f"{subject}_mask.nii.gz"
        save(tmp_path / name, np.asarray(mask.dataobj), elsewhere(mask.affine), "u1")
        lines.append(f"{subject},{scan.name},{name}")
    (tmp_path / "scans.csv").write_text("\n".join(lines))
    site = Site(tmp_path / "scans.csv", "healthy")
    how = {"compute.threads": 1, "compute.jobs": 1, "compute.device": "cpu"}
    with pytest.raises(DataError, match="--trust-grid"):
        calibrate_on_site(tiny_run.bundle, site, tmp_path / "new", overrides=how)
    trusting = Site(tmp_path / "scans.csv", "healthy", trust_grid=True)
    done = calibrate_on_site(tiny_run.bundle, trusting, tmp_path / "new", overrides=how)
    assert done["n_scans"] == len(val)
