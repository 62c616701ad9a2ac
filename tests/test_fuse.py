"""Several contrasts, one verdict: runs fused and packed as a composite bundle."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from contrasts import CONTRASTS, a_patient, scans_of
from twinvae.commands.app import main
from twinvae.detection import shipped
from twinvae.detection.composite import read_composite
from twinvae.detection.detect import detect_scans
from twinvae.detection.detect_patients import detect_patients
from twinvae.errors import ConfigError, DataError, StageError
from twinvae.evaluation import read_metrics
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run
from twinvae.runs.fuse import FUSION, fuse_runs
from twinvae.runs.pack import ship_bundle, ship_composite
from twinvae.scoring import read_scores


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["twinvae", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


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
