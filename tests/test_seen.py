"""What models were trained on is known by content, and is never judged or calibrated on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest

from test_site import CPU, first_threshold, site_of
from tiny import tiny_config
from twinvae.cohort import read_manifest, write_manifest
from twinvae.detection.bundle import read_bundle
from twinvae.detection.recalibrate import Site, calibrate_on_site
from twinvae.detection.seen import SEEN, Seen, seen_by
from twinvae.errors import DataError, PartialFailureError
from twinvae.files import read_json
from twinvae.imaging.quality import read_flags
from twinvae.imaging.volume import content_hash
from twinvae.runs.folder import Run
from twinvae.runs.stages import judge, run_stages, score


def test_a_bundle_knows_every_scan_its_models_have_seen_and_names_nobody(tiny_run: Run) -> None:
    table = read_manifest(tiny_run.manifest)
    learned = table[table["split"] != "test"]
    found = read_json(tiny_run.bundle / SEEN)
    (group,) = found["groups"]
    assert found["unknown"] == []
    assert len(group["scans"]) == len(learned)
    assert {(s["role"], s["split"]) for s in group["scans"]} == {
        (role, split) for role in ("healthy", "mixed") for split in ("train", "val")
    }
    text = (tiny_run.bundle / SEEN).read_text()
    assert not any(json.dumps(subject)[1:-1] in text for subject in table["subject"])
    seen = read_bundle(tiny_run.bundle).seen
    for _, row in table.iterrows():
        content = content_hash(nib.load(row["image"]).get_fdata(dtype="float32"))
        assert seen.trained_on(content) == (row["split"] == "train")
        known = seen.trained_on_subject(row["source"], row["subject"])
        assert known == (row["split"] == "train")
    assert not seen.trained_on_subject("elsewhere", table["subject"][0])


def test_thresholds_are_not_set_on_training_scans_whatever_they_are_called(
    tiny_run: Run, tmp_path: Path
) -> None:
    scans = site_of(tiny_run, "healthy", ("val",), tmp_path / "clinic")
    expected = tmp_path / "alone"
    calibrate_on_site(tiny_run.bundle, Site(scans, "healthy"), expected, overrides=CPU)
    table = read_manifest(tiny_run.manifest)
    trained = table[(table["role"] == "healthy") & (table["split"] == "train")].iloc[0]
    again = scans / "sub-new/anat/sub-new_T2w.nii"  # turned over, and not compressed
    again.parent.mkdir(parents=True)
    nib.save(nib.load(trained["image"]).slicer[::-1], again)
    with pytest.raises(PartialFailureError, match="written without 1 scans") as error:
        calibrate_on_site(tiny_run.bundle, Site(scans, "healthy"), tmp_path / "new", overrides=CPU)
    assert str(again) in str(error.value)
    assert "not trained on, found the voxels of a training scan" in str(error.value)
    mine, alone = (read_bundle(path).calibration for path in (tmp_path / "new", expected))
    assert first_threshold(mine) == first_threshold(alone)
    assert read_bundle(tmp_path / "new").seen == read_bundle(tiny_run.bundle).seen


def test_another_scan_of_somebody_trained_on_is_refused_by_name(
    tiny_run: Run, tmp_path: Path
) -> None:
    scans = site_of(tiny_run, "healthy", ("train",), tmp_path / "healthy")
    for file in scans.glob("sub-*/anat/*_T2w.nii.gz"):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(image.get_fdata() * 1.5, image.affine), file)
    with pytest.raises(DataError, match=r"of source healthy, who is called like .*--site"):
        calibrate_on_site(tiny_run.bundle, Site(scans, "healthy"), tmp_path / "new", overrides=CPU)
    ours = Site(scans, "healthy", name="ours")
    calibrate_on_site(tiny_run.bundle, ours, tmp_path / "new", overrides=CPU)


def test_a_test_scan_that_is_a_training_scan_is_refused(tiny_run: Run, tmp_path: Path) -> None:
    table = read_manifest(tiny_run.manifest)
    mixed = table[table["role"] == "mixed"]
    trained, tested = (mixed[mixed["split"] == name].index[0] for name in ("train", "test"))
    copy = tmp_path / "other-name.nii.gz"
    shutil.copyfile(table.loc[trained, "image"], copy)
    table.loc[tested, ["image", "tumour_mask"]] = str(copy), table.loc[trained, "tumour_mask"]
    table.loc[tested, "brain_mask"] = table.loc[trained, "brain_mask"]
    write_manifest(table, tmp_path / "scans.tsv")
    config = tiny_config(cohort__phantom=None, cohort__manifest=str(tmp_path / "scans.tsv"))
    run = Run.create(config, tmp_path / "run")
    who = table.loc[[trained, tested], "subject"].tolist()
    says = rf"qc\.tsv: expected test scans .*found 1 [\s\S]*mixed/{who[1]} .*is mixed/{who[0]} "
    run_stages(run, until="train")
    with pytest.raises(DataError, match=says):
        run_stages(run, until="score")
    for stage in (score, judge):
        with pytest.raises(DataError, match=says):
            stage(run)


def test_scans_behind_given_weights_count_too(tiny_run: Run, tmp_path: Path) -> None:
    start = tiny_run.models / "healthy"
    flags = read_flags(tiny_run.flags)
    other = flags.head(3).assign(content=["a", "b", "c"], split=["train", "val", "test"])
    seen = seen_by(other, {"healthy": start, "mixed": tiny_run.models / "mixed"})
    assert len(seen.groups) == 2  # both roles' weights come from one run
    assert seen.unknown == ()
    trained = flags[flags["split"] == "train"]["content"]
    assert all(map(seen.trained_on, [*trained, "a"]))
    assert not any(map(seen.trained_on, ["b", "c"]))
    unknown = seen_by(other, {"mixed": tmp_path / "models/mixed"})
    assert unknown.says() == (
        "Trained on: 1 scans of 1 subjects; others unknown, for the mixed model began with weights "
        "whose scans are not all known."
    )
    # A run that begins with these weights is not judged on their scans.
    config = tiny_run.config.model_copy(
        update={"training": tiny_run.config.training.model_copy(
            update={"healthy": tiny_run.config.training.healthy.model_copy(update={"start": start})}
        )}
    )  # fmt: skip
    run = Run.create(config, tmp_path / "run")
    (tmp_path / "run/slices").mkdir()
    pd.DataFrame(flags.assign(split="test")).to_csv(run.flags, sep="\t", index=False)
    with pytest.raises(DataError, match=rf"\(test\) is a scan that {start} was trained on"):
        score(run)


def test_a_bundle_from_before_says_unknown(tmp_path: Path) -> None:
    assert Seen.read(tmp_path).says().startswith("Trained on: unknown")
    assert not Seen.read(tmp_path).trained_on("0" * 16)
