"""A call of ``detect`` that goes on where another stopped: in processes, as a plan, as JSON."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from twinvae.commands.app import app
from twinvae.detection import detect as detect_module
from twinvae.detection.batch import Job, Outcome, run
from twinvae.detection.detect import Detection, detect_scans
from twinvae.detection.kept import MADE_FROM
from twinvae.detection.options import DetectOptions
from twinvae.detection.plan import plan_detection
from twinvae.errors import NoVerdictError, PartialFailureError
from twinvae.files import checksum, read_json, sealed, unsealed, write_json
from twinvae.parallel import DIED
from twinvae.runs.folder import Run


@pytest.fixture
def scans(tiny_scan: Path, tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    return [Path(shutil.copyfile(tiny_scan, tmp_path / f"in/{name}.nii.gz")) for name in "abc"]


def flipped(scan: Path, to: Path) -> Path:
    """A scan turned upside down in intensity: out of domain."""
    image = nibabel.load(scan)
    data = np.asarray(image.dataobj, np.float32)
    nibabel.save(
        nibabel.Nifti1Image(np.where(data > 0, data.max() + 1 - data, 0), image.affine), to
    )
    return to


def times(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/verdict.json")}


def test_results_are_kept_until_something_that_matters_changes(
    tiny_run: Run, scans: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def again(**options) -> tuple[list[Detection], list[str]]:
        before = times(out)
        found = detect_scans(tiny_run.bundle, scans[:2], out, threads=1, **options)
        return found, sorted(n for n, made in times(out).items() if made != before.get(n))

    first, made = again()
    assert sorted(made) == ["a", "b"]
    rows = (out / "summary.tsv").read_text()
    kept, made = again()
    assert made == []
    assert (out / "summary.tsv").read_text() == rows
    for one, before in zip(kept, first, strict=True):
        assert (one.name, one.image, one.folder) == (before.name, before.image, before.folder)
        assert one.verdict == before.verdict
        assert one.judgement.outside == before.judgement.outside
        own = before.slices[one.slices.columns]
        pd.testing.assert_frame_equal(one.slices, own, check_dtype=False, check_exact=True)
        assert one.judgement.called == before.judgement.called
        assert one.summary() == before.summary()
    assert not any(one.judgement.outside for one in first)
    assert again(force=True)[1] == []  # it changes nothing for scans in domain
    assert again(maps=["image_l1"])[1] == ["a", "b"]
    assert again()[1] == ["a", "b"]
    assert again(again=True)[1] == ["a", "b"]
    verdict = read_json(out / "a/verdict.json")
    write_json(out / "a/verdict.json", verdict | {"verdict": "edited"})
    assert again()[1] == ["a"]
    (out / "b/report.html").unlink()
    assert again()[1] == ["b"]
    os.utime(scans[0], (1, 1))
    assert again()[1] == ["a"]
    moved = shutil.copytree(tiny_run.bundle, tmp_path / "other")
    about = read_json(moved / "bundle.json")
    plans = [plan_detection(b, scans[:2], out, DetectOptions(), together=False)
             for b in (tiny_run.bundle, moved)]  # fmt: skip
    assert all(task.kept for plan in plans for task in plan.tasks)  # the same, elsewhere
    write_json(moved / "bundle.json", sealed(unsealed(about) | {"note": "another"}))
    plan = plan_detection(moved, scans[:2], out, DetectOptions(), together=False)
    assert not any(task.kept for task in plan.tasks)
    assert read_json(out / "a" / MADE_FROM)["bundle_sha256"] == checksum(
        tiny_run.bundle / "bundle.json"
    )


def test_forcing_judges_only_what_had_no_verdict(
    tiny_run: Run, scans: list[Path], tmp_path: Path
) -> None:
    given, out = [scans[0], flipped(scans[0], tmp_path / "odd.nii.gz")], tmp_path / "out"
    plain = detect_scans(tiny_run.bundle, given, out, threads=1)
    assert [one.verdict is None for one in plain] == [False, True]
    before = times(out)
    kept = detect_scans(tiny_run.bundle, given, out, threads=1)
    assert times(out) == before
    assert kept[1].verdict is None
    assert kept[1].judgement.called is None
    assert kept[1].judgement.outside == plain[1].judgement.outside
    forced = detect_scans(tiny_run.bundle, given, out, threads=1, force=True)
    assert [name for name, made in times(out).items() if made != before[name]] == ["odd"]
    assert all(one.verdict for one in forced)


def test_a_call_that_was_cut_off_goes_on(
    tiny_run: Run, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, seen = tmp_path / "out", detect_module.look, []

    def cut(reader, scan, **more):
        seen.append(scan.subject)
        if scan.subject == "b":
            raise KeyboardInterrupt
        return real(reader, scan, **more)

    monkeypatch.setattr(detect_module, "look", cut)
    with pytest.raises(KeyboardInterrupt):
        detect_scans(tiny_run.bundle, scans, out, threads=1)
    assert pd.read_csv(out / "summary.tsv", sep="\t")["name"].tolist() == ["a"]
    monkeypatch.setattr(
        detect_module, "look", lambda *a, **k: (seen.append("on"), real(*a, **k))[1]
    )
    found = detect_scans(tiny_run.bundle, scans, out, threads=1)
    assert seen == ["a", "b", "on", "on"]
    assert [one.name for one in found] == ["a", "b", "c"]
    assert pd.read_csv(out / "summary.tsv", sep="\t")["name"].tolist() == ["a", "b", "c"]


def _dies_on_b(job: Job) -> Outcome[Detection]:
    if job.task.name == "b":
        os._exit(9)
    return detect_module._judge(job)


def test_processes_find_the_same_and_lose_nothing(
    tiny_run: Run, scans: list[Path], tmp_path: Path
) -> None:
    scans.insert(1, tmp_path / "broken.nii.gz")
    scans[1].write_bytes(b"no scan")
    with pytest.raises(PartialFailureError, match=r"1 of 4 scans skipped[\s\S]*broken\.nii\.gz"):
        detect_scans(tiny_run.bundle, scans, tmp_path / "two", jobs=2)
    with pytest.raises(PartialFailureError):
        detect_scans(tiny_run.bundle, scans, tmp_path / "one", threads=1)
    tables = [(tmp_path / n / "summary.tsv").read_text().splitlines() for n in ("one", "two")]
    assert [[row.split("\t")[0] for row in t] for t in tables] == [["name", "a", "b", "c"]] * 2
    slices = [pd.read_csv(tmp_path / n / "c/slices.tsv", sep="\t") for n in ("one", "two")]
    pd.testing.assert_frame_equal(*slices)
    options = DetectOptions(jobs=2, again=True)
    del scans[1]
    plan = plan_detection(tiny_run.bundle, scans, tmp_path / "three", options, together=False)
    report = run(plan, _dies_on_b, detect_module._recall)
    assert [one.name for one in report.found] == ["a", "c"]
    assert report.skipped[0].reason == f"{scans[1]}: {DIED}"


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["detect", *map(str, words)])


def test_a_dry_run_shows_all_and_writes_nothing(
    tiny_run: Run, scans: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = [tiny_run.bundle, scans[0].parent, "-o", out]
    done = command(*given, "--dry-run")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["result", "subject", "contrast", "scan", "kept"]
    assert [line.split()[0] for line in lines[1:4]] == ["a", "b", "c"]
    assert all(line.endswith("no") for line in lines[1:4])
    assert str(scans[1]) in lines[2]
    assert not out.exists()
    detect_scans(tiny_run.bundle, scans[:1], out, threads=1)
    shown = json.loads(command(*given, "--dry-run", "--json").stdout)
    assert [(row["result"], row["kept"]) for row in shown["scans"]] == [
        ("a", "yes"), ("b", "no"), ("c", "no")
    ]  # fmt: skip
    assert shown["scans"][0]["bundle"] == tiny_run.bundle.name
    (out / "b").mkdir()
    (out / "b/mine.txt").write_text("mine")
    assert command(*given, "--dry-run").exit_code != 0


def test_json_is_all_that_is_printed_and_exit_codes_tell_what_happened(
    tiny_run: Run, scans: list[Path], tmp_path: Path
) -> None:
    odd = flipped(scans[0], tmp_path / "odd.nii.gz")
    words = [tiny_run.bundle, scans[0], odd, "-o", tmp_path / "out", "--json", "--threads", "1"]
    done = command(*words)
    assert isinstance(done.exception, NoVerdictError)
    assert done.exception.exit_code == 8
    assert "1 of 2 got no verdict, out of domain: odd" in str(done.exception)
    said = json.loads(done.stdout)
    first, second = said["results"]
    stored = read_json(tmp_path / "out/a/verdict.json")
    assert first["image"] == str(scans[0])
    assert first["folder"] == str(tmp_path / "out/a")
    for key in ("verdict", "score", "value", "threshold", "p_value", "abnormal_slices"):
        assert first[key] == stored[key], key
    assert second["verdict"] == "none: out of domain"
    assert any("OUT OF DOMAIN" in warning for warning in second["warnings"])
    assert said["skipped"] == []
    scans[1].write_bytes(b"no scan")
    both = command(*words[:3], scans[1], *words[3:])
    assert isinstance(both.exception, PartialFailureError)  # goes before no verdict
    said = json.loads(both.stdout)
    assert [one["kept"] for one in said["results"]] == [True, True]
    assert said["results"][1]["warnings"] == second["warnings"]
    assert said["skipped"][0]["scan"] == str(scans[1])
    assert "b.nii.gz" in said["skipped"][0]["reason"]
    forced = command(*words, "--force")
    assert forced.exit_code == 0


def test_a_mask_that_is_known_goes_before_stripping(
    tiny_run: Run, scans: list[Path], tmp_path: Path
) -> None:
    image = nibabel.load(scans[0])
    mask = (np.asarray(image.dataobj) > 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / "mask.nii.gz")
    table = tmp_path / "t.csv"
    table.write_text(f"subject,image,brain_mask\nP1,{scans[0]},mask.nii.gz\n")
    (one,) = detect_scans(
        tiny_run.bundle, table, tmp_path / "out", skull_strip="template", threads=1, force=True
    )
    assert read_json(one.folder / "verdict.json")["brain_mask"] is None
    assert not (one.folder / "brain_mask.nii.gz").exists()
