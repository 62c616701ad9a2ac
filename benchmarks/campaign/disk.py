"""Outputs that cannot be written: a full disk, a disk for reading only, somebody else's folder.

Needs mounts of its own: as root, or within `unshare -rm`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from room import Ended, Room, Tally, Words, content, copy, twinvae, verdict

from tiny import TINY
from twinvae.progress import progress_bar
from twinvae.runs.folder import STAGES

_MIB = 2**20
_NOBODY = 65534


@contextmanager
def small_disk(room: Room) -> Iterator[Path]:
    """A file system of 20 MB of its own."""
    place = room.new("disk")
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, left: int) -> Path:
    """A file that leaves only so many bytes of the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        room = shutil.disk_usage(disk).free - left
        while room > 0:
            room -= file.write(bytes(min(room, _MIB)))
    return ballast


def size(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def disk_full(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """Each stage runs out of space; with space again, the run ends as if nothing had happened."""
    shares = [0.0, float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.5, 0.95))]
    never = []
    with progress_bar("disk full", len(shares) * (len(STAGES) + 1)) as bar:
        for share in shares:
            with small_disk(room) as disk:
                for stage in STAGES:
                    after = _after(room, stage)
                    before = size(disk / "run") if (disk / "run").is_dir() else 0
                    ballast = fill(disk, int(share * max(0, size(after) - before)))
                    words = ["run", room.config, "-o", disk / "run", "--until", stage]
                    ended = twinvae(words, room.log)
                    ballast.unlink()
                    if ended.code == 0:
                        never.append(f"{stage} at {share:.0%}")
                    _refused(tally, ended, f"{stage} with {share:.0%}", full=True)
                    then = twinvae(words, room.log)
                    if then.code or not then.is_clear:
                        tally.faults.append(("lost", f"{stage} cannot go on: {then.end}"))
                    bar.advance()
                words = ["run", room.config, "-o", disk / "run"]
                kind, what = verdict(twinvae(words, room.log), room.wanted, disk / "run")
                if kind != "survived":
                    tally.faults.append((kind, f"after full disks with {share:.0%}: {what}"))
                _detect_on_full(room, disk, share, tally)
                bar.advance()
    if never:
        tally.notes.append(f"not too full after all: {', '.join(never)}")


def _after(room: Room, stage: str) -> Path:
    later = STAGES[STAGES.index(stage) + 1 :]
    return room.before(later[0]) if later else room.reference


def _detect_on_full(room: Room, disk: Path, share: float, tally: Tally) -> None:
    words = ["detect", room.reference / "bundle", room.scan, "-o", disk / "found", "--force"]
    whole = room.new("found")
    twinvae([*words[:4], whole, "--force"], room.log)
    ballast = fill(disk, int(share * size(whole)))
    _refused(tally, twinvae(words, room.log), f"detect with {share:.0%}", full=True)
    ballast.unlink()
    ended = twinvae(words, room.log)
    if ended.code or content(disk / "found") != content(whole):
        tally.faults.append(("lost", f"detect after a full disk: {ended.end}"))


def _refused(tally: Tally, ended: Ended, where: str, *, full: bool = False) -> None:
    """Count a command that had to fail with one message (on a disk full enough)."""
    said = [line for line in ended.said.splitlines() if line.startswith("error:")]
    if not ended.is_clear:
        tally.add("traceback", f"{where}: {ended.end}")
    elif ended.code and len(said) != 1:
        tally.add("traceback", f"{where}: {len(said)} messages: {ended.end}")
    elif ended.code == 0 and not full:
        tally.add("wrong", f"{where}: wrote nothing and said nothing: {ended.end}")
    else:
        tally.add("survived", "")


class Given:
    """What commands with an output read."""

    def __init__(self, room: Room) -> None:
        self.folder = room.new("given")
        copy(room.reference / "cohort" / "healthy", self.folder / "healthy")
        self.bundle = copy(room.reference / "bundle", self.folder / "bundle")
        self.table = self.folder / "scores.tsv"
        shutil.copy2(room.reference / "scores.tsv", self.table)
        self.scan = self.folder / "scan.nii.gz"
        shutil.copy2(room.scan, self.scan)
        self.study = self.folder / "study.yaml"
        settings = {k: v for k, v in TINY.items() if k != "name"}
        data = {"one": {"config": "demo"}}
        models = {"vae": {}}
        self.study.write_text(
            yaml.safe_dump({"name": "s", "data": data, "models": models, "settings": settings})
        )
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def commands(room: Room, given: Given, out: Path, run: Path) -> dict[str, Words]:
    """Every command with an output: in ``out``, or in the finished run ``run``."""
    healthy = given.folder / "healthy"
    counts = ["--healthy", "2", "--mixed", "2", "--spacing-mm", "4", "--jobs", "1"]
    found: dict[str, Words] = {
        "phantom": ["phantom", out / "phantom", *counts],
        "index": ["index", healthy, "--role", "healthy", "-o", out / "list" / "manifest.tsv"],
        "run": ["run", room.config, "-o", out / "run"],
        "crossval": ["crossval", room.config, "--folds", "2", "-o", out / "folds"],
        "study": ["study", given.study, "-o", out / "study", "--jobs", "1"],
        "check": ["check", run / "manifest.tsv", "-o", out / "odd.tsv", "--jobs", "1"],
        "calibrate": ["calibrate", given.bundle, "--healthy", healthy, "-o", out / "bundle"],
        "evaluate": ["evaluate", given.table, "-o", out / "judged"],
        "detect": ["detect", given.bundle, given.scan, "-o", out / "found", "--force"],
        "yardstick RUN": ["yardstick", run],
        "run RUN": ["run", room.config, "-o", run],
    }
    for stage in ("prepare", "train", "score", "calibrate", "evaluate", "report"):
        found[f"{stage} RUN"] = [stage, run, "--force"]
    return found


def read_only(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """Every command with an output, where it may not write: one message, nothing changed."""
    given = Given(room)
    room.folder.chmod(0o755)
    with small_disk(room) as disk:
        run = copy(room.reference, disk / "run")
        (disk / "out").mkdir()
        before = content(disk)
        for how in ("a disk for reading only", "somebody else's folder"):
            if how.startswith("a disk"):
                subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
                user = None
            else:
                subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
                user = _NOBODY
                room.log.unlink(missing_ok=True)
                room.log.touch()
                room.log.chmod(0o666)
            todo = commands(room, given, disk / "out", run)
            with progress_bar(f"read-only: {how}", len(todo)) as bar:
                for name, words in todo.items():
                    _refused(tally, twinvae(words, room.log, user=user), f"{how}: {name}")
                    bar.advance()
        if content(disk) != before:
            tally.faults.append(("lost", "a command changed what it may not write"))
