"""prepare and check from the command line: shards, resuming, broken scans, exit codes."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from test_cli import twinvae
from twinvae.runs.folder import Run


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def ready(tiny_run: Run, tmp_path: Path) -> Path:
    """A copy of the tiny run of which only the index is done."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", "run.json", "manifest.tsv", "stages/index.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(tiny_run.folder / name, folder / name)
    (folder / "cohort").symlink_to(tiny_run.folder / "cohort")
    return folder


def test_shards_and_a_merge_give_the_bytes_of_the_run(tiny_run: Run, ready: Path) -> None:
    for shard in ("2/2", "1/2"):
        done = twinvae("prepare", ready, "--shard", shard, "--jobs", 1)
        assert done.returncode == 0, done.stderr
    done = twinvae("prepare", ready, "--merge")
    assert done.returncode == 0, done.stderr
    found, wanted = digests(ready / "slices"), digests(tiny_run.slices)
    assert found.keys() == wanted.keys()
    paths_inside = {"qc.tsv"}  # names each image by its absolute path
    assert {n for n in wanted if found[n] != wanted[n]} <= paths_inside
    assert "nothing changed" in twinvae("prepare", ready, "--shard", "1/2").stderr


def test_a_killed_prepare_goes_on_with_the_same_bytes(tiny_run: Run, ready: Path) -> None:
    command = [sys.executable, "-m", "twinvae", "prepare", str(ready), "--jobs", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(ready.glob("slices/parts/*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (ready / "slices/index.tsv").exists()
    assert list(ready.glob("slices/parts/*.npz"))
    done = twinvae("prepare", ready, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    for name in ("images.npy", "brain.npy", "tumour.npy", "index.tsv", "qc/mixed.png"):
        assert (ready / "slices" / name).read_bytes() == (tiny_run.slices / name).read_bytes()


def test_a_broken_scan_gives_exit_code_6_and_strict_3(ready: Path, tiny_run: Run) -> None:
    (ready / "cohort").unlink()
    shutil.copytree(tiny_run.folder / "cohort", ready / "cohort")
    broken = sorted(ready.glob("cohort/mixed/sub-*/anat/*_T2w.nii.gz"))[0]
    broken.write_bytes(broken.read_bytes()[:1000])
    strict = twinvae("prepare", ready, "--jobs", 1, "--strict")
    assert strict.returncode == 3
    assert broken.name in strict.stderr
    done = twinvae("prepare", ready, "--jobs", 1)
    assert done.returncode == 6
    assert "1 scans were skipped" in done.stderr
    assert "not_prepared" in (ready / "slices/qc.tsv").read_text()
    checked = twinvae("check", ready / "manifest.tsv", "-o", ready / "flags.tsv", "--jobs", 1)
    assert checked.returncode == 6
    assert "unreadable" in checked.stdout
    assert broken.name in (ready / "flags.tsv").read_text()


def test_index_with_check_finds_a_scan_that_is_there_twice(tiny_run: Run, tmp_path: Path) -> None:
    scans = sorted(tiny_run.folder.glob("cohort/healthy/sub-*/anat/*_T2w.nii.gz"))[:6]
    rows = ["subject,image,split"]
    for number, scan in enumerate([*scans, scans[0]]):
        shutil.copyfile(scan, tmp_path / f"{number}.nii.gz")
        split = ("train", "val", "test")[min(number, 6) % 3]
        rows.append(f"s{number},{number}.nii.gz,{'test' if number == 6 else split}")
    (tmp_path / "scans.csv").write_text("\n".join(rows) + "\n")
    done = twinvae("index", "scans.csv", "--role", "healthy", "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the same scan in two splits" in done.stderr
    assert done.stdout.count("duplicate_across_splits") == 2
    assert "duplicate_across_splits" in (tmp_path / "manifest.qc.tsv").read_text()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--shard", "3/2"], 2, "--shard: expected i/n"),
        (["--shard", "1/2", "--merge"], 2, "expected no --shard"),
    ],
)
def test_impossible_ways_to_prepare(ready: Path, words: list[str], code: int, says: str) -> None:
    done = twinvae("prepare", ready, *words)
    assert done.returncode == code
    assert says in " ".join(done.stderr.split())


def test_the_report_mentions_flags_and_every_source_has_a_sheet(tiny_run: Run) -> None:
    assert "Quality control flagged" in (tiny_run.folder / "report.html").read_text()
    sheets = sorted(path.name for path in (tiny_run.slices / "qc").glob("[!.]*"))
    assert sheets == ["healthy.png", "mixed.png"]
