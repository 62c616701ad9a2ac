"""What every part of the campaign works with: commands, a finished run, and how trials are counted.

A command is `twinvae` itself, in a child forked from a process that has imported everything, so
that a trial costs no start-up; it leads a process group of its own, so that it can be killed with
all it started.
"""

from __future__ import annotations

import codecs
import importlib
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import twinvae as package
from tiny import tiny_config
from twinvae.__main__ import main
from twinvae.config import dump_config
from twinvae.files import TEMPORARY, checksum
from twinvae.provenance import STAGE_CODE, code_digest, made_with
from twinvae.runs.folder import STAGES

Words = Sequence[str | Path]
LIMIT_S = 300.0  # a command that takes longer hangs
FAULTS = ("lost", "traceback", "wrong")


@dataclass
class Tally:
    """Outcomes of the trials of one part."""

    part: str
    seed: int
    tried: int = 0
    survived: int = 0
    seconds: float = 0.0
    faults: list[tuple[str, str]] = field(default_factory=list)
    """(one of FAULTS, what happened)."""
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, what: str) -> None:
        """Count one trial: `survived`, or one of FAULTS."""
        self.tried += 1
        if kind == "survived":
            self.survived += 1
        else:
            self.faults.append((kind, what))
            print(f"  {kind}: {what}", flush=True)

    def count(self, kind: str) -> int:
        return sum(found == kind for found, _ in self.faults)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    words: str
    code: int
    """Exit code; minus the signal's number when one ended it."""
    said: str

    @property
    def is_clear(self) -> bool:
        """Whether it ended by itself, with exit code 0 or a message and no traceback."""
        return self.code >= 0 and "Traceback (most recent" not in self.said and (
            self.code == 0 or "error:" in self.said or "Error" in self.said
        )  # fmt: skip

    @property
    def end(self) -> str:
        """The last of what it said, in one line."""
        return f"{self.words}: code {self.code}: {' '.join(self.said.split())[-400:]}"


class Command:
    """A running `twinvae WORDS`."""

    def __init__(self, words: Words, log: Path, *, user: int | None = None) -> None:
        self.words = [str(word) for word in words]
        self.log, self.started = log, time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if self.process == 0:
            self._be(user)

    def _be(self, user: int | None) -> None:
        """Never returns."""
        code = 1
        try:
            os.setsid()
            out = os.open(self.log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
            os.dup2(out, 1)
            os.dup2(out, 2)
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            sys.argv = ["twinvae", *self.words]
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def kill(self) -> bool:
        """SIGKILL to the whole group; whether it was still at work."""
        alive = os.waitpid(self.process, os.WNOHANG)[0] == 0
        if alive:
            os.killpg(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        return alive

    def end_by(self, limit_s: float = LIMIT_S) -> Ended:
        """How it ended; one that hangs is killed and ends with code −9."""
        words = " ".join(_short(word) for word in self.words)
        while time.monotonic() - self.started < limit_s:
            found, status = os.waitpid(self.process, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                return Ended(words, code, self.log.read_text(errors="replace"))
            time.sleep(0.01)
        self.kill()
        said = f"no end within {limit_s:g} s; {self.log.read_text(errors='replace')}"
        return Ended(words, -signal.SIGKILL, said)


def _short(word: str) -> str:
    """Words without the campaign's own folder."""
    return re.sub(r"/\S*/campaign-[^/]*/", "", word)


def twinvae(words: Words, log: Path, *, user: int | None = None, limit_s: float = LIMIT_S) -> Ended:
    """Do a command and see how it ends."""
    return Command(words, log, user=user).end_by(limit_s)


def _import_all() -> None:
    """Whatever a child may need, so that none reads code: it may change, or be out of its reach."""
    for module in pkgutil.walk_packages(package.__path__, "twinvae."):
        importlib.import_module(module.name)
    codecs.lookup("utf-8-sig")
    made_with()
    for parts in STAGE_CODE.values():
        code_digest(parts)


class Room:
    """A folder to work in, with the tiny configuration and a finished run of it."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        _import_all()
        self.folder = folder
        self.config = folder / "tiny.yaml"
        self.config.write_text(yaml.safe_dump(dump_config(tiny_config()), sort_keys=False))
        self.log = folder / "log.txt"
        self.reference = folder / "reference"
        self.wanted: dict[str, str] = {}
        self.took: dict[str, float] = {}
        """Seconds of each stage."""

    def do_run(self) -> None:
        """The run that others are held against."""
        ended = twinvae(["run", self.config, "-o", self.reference], self.log)
        if ended.code:
            raise SystemExit(f"the undisturbed run failed: {ended.end}")
        self.wanted |= content(self.reference)
        self._by_stages()

    def _by_stages(self) -> None:
        """The run once more, stage by stage, with a copy before each."""
        again = self.new("again")
        for stage in STAGES:
            if again.is_dir():
                copy(again, self.before(stage))
            started = time.monotonic()
            twinvae(["run", self.config, "-o", again, "--until", stage], self.log)
            self.took[stage] = time.monotonic() - started
        if apart := differing(self.wanted, content(again)):
            raise SystemExit(f"two undisturbed runs differ: {apart}")
        shutil.rmtree(again)

    def before(self, stage: str) -> Path:
        """A run as it is before the stage; no folder for the first."""
        return self.folder / "before" / stage

    def start(self, name: str, stage: str) -> Path:
        """A new run that is to do ``stage`` next."""
        folder = self.new(name)
        if self.before(stage).is_dir():
            copy(self.before(stage), folder)
        return folder

    @property
    def scan(self) -> Path:
        """A test scan of the run."""
        return sorted(self.reference.glob("cohort/mixed/sub-*/anat/*T2w.nii.gz"))[0]

    def new(self, name: str) -> Path:
        """A path where nothing is."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return self.folder / name


def copy(folder: Path, to: Path) -> Path:
    """The folder at ``to``, times of files kept, so that nothing in it is stale."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to, copy_function=shutil.copy2, symlinks=True)
    return to


# What says how long something took, when it was written, or where: no two runs agree in these.
TIMES = {
    "models/*/trained.json": "seconds",
    "models/*/log.jsonl": "seconds",
    "stages/*.json": "wrote fingerprint seal",  # checksums and times of the files above
}
_UNSEEN = (".twinvae.lock",)


def content(folder: Path) -> dict[str, str]:
    """Of every file of a run what two runs must share, as text or as a checksum."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and path.name not in _UNSEEN:
            times = next((t for p, t in TIMES.items() if Path(name).match(p)), "")
            if name == "slices/qc.tsv":  # names scans by their whole path
                found[name] = re.sub(r"/\S*/cohort/", "", path.read_text(errors="replace"))
            else:
                found[name] = _without(path, times.split()) if times else checksum(path)
    return found


def _without(path: Path, keys: Sequence[str]) -> str:
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] \
            if path.suffix == ".jsonl" else [json.loads(path.read_text())]  # fmt: skip
    except ValueError:
        return f"unreadable {checksum(path)}"
    return json.dumps([_dropped(row, keys) for row in rows], sort_keys=True)


def _dropped(value: Any, keys: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {k: _dropped(v, keys) for k, v in value.items() if k not in keys}
    return value


def differing(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """Names of files that are not as wanted: other content, missing, or too many."""
    names = sorted(wanted.keys() | found.keys())
    return [
        name + ("" if name in found else " is missing") if name in wanted else name + " is extra"
        for name in names
        if wanted.get(name) != found.get(name)
    ]


def verdict(ended: Ended, wanted: dict[str, str], folder: Path) -> tuple[str, str]:
    """Of a run that was to end well: a kind for ``Tally.add``, and what happened."""
    if not ended.is_clear:
        return "traceback", ended.end
    if ended.code:
        return "lost", ended.end
    apart = differing(wanted, content(folder))
    if apart and all(TEMPORARY in name and name.endswith("is extra") for name in apart):
        return "lost", f"{ended.words}: litter stays: {apart[:3]}"
    return ("wrong", f"{ended.words}: differ: {apart[:6]}") if apart else ("survived", "")


def next_stage(folder: Path) -> str:
    """The first stage without a stamp."""
    left = [s for s in STAGES if not (folder / "stages" / f"{s}.json").is_file()]
    return left[0] if left else "done"


def counted(names: Iterable[str]) -> str:
    """`a 3, b 2`."""
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common())


Part = Callable[[Room, np.random.Generator, Tally], None]
