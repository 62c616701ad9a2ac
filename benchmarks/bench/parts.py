"""The parts of the bench: which script, how large, and whether an earlier outcome still holds."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import busy_seconds, run_program

BENCHMARKS = Path(__file__).resolve().parents[1]
PACKAGE = BENCHMARKS.parent / "src" / "twinvae"
_SHARED = ("measuring.py",)
_HOURS = 3600 * 6
Outcome = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One script."""

    name: str
    title: str
    script: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    """Its arguments for a run of a few minutes."""
    rivals: str = ""
    """What needs other people's packages: `all` of it, an `option` of it, or nothing."""
    beside: tuple[str, ...] = ()
    """Further files of this folder that it imports."""

    def command(self, out: Path, *, quick: bool, rivals_python: str | None) -> list[str]:
        """To write the part's figures into ``out``."""
        python, more = sys.executable, []
        if self.rivals == "all" and rivals_python:
            python = rivals_python
        elif self.rivals == "option":
            more = ["--rivals-python", rivals_python] if rivals_python else []
            if self.name == "prepare" and not rivals_python:
                more = ["--no-rivals"]  # else it would install them itself
        given = self.quick if quick else self.full
        return [python, str(BENCHMARKS / self.script), *given, *more, "--out", str(out)]

    def code_time(self) -> float:
        """When the package, or the part's own code, was last changed."""
        own = (BENCHMARKS / name for name in (self.script, *self.beside, *_SHARED))
        return max(path.stat().st_mtime for path in (*own, *PACKAGE.rglob("*.py")))


PARTS = (
    Part("training", "training, one thread", "training_step.py", ("--rounds", "12"),
         ("--rounds", "2", "--only", "paper, healthy"), "all", ("trainers.py",)),
    Part("scoring", "scoring, two threads", "scoring_cost.py", (),
         ("--slices", "500", "--repeats", "2")),
    Part("detect", "detect, two threads", "detect_cost.py", ("--scans", "100"),
         ("--scans", "3", "--rounds", "1"), beside=("prepare.py",)),
    Part("prepare", "preparation, one core", "prepare.py", (), ("--scans", "1", "--repeats", "2"),
         "option", ("prepare_worker.py",)),
    Part("prepare-scale", "preparation in processes", "prepare_scale.py", (), ("--scans", "4")),
    Part("evaluation", "evaluation", "evaluation_cost.py", (),
         ("--scores", "3", "--subjects", "10", "--slices", "30", "--rounds", "1")),
    Part("evaluation-large", "evaluation of a million rows", "evaluation_large.py", (),
         ("--rows", "6000", "--scores", "3", "--resamples", "200"),
         beside=("evaluation_cost.py",)),
    Part("slices", "the slice store", "slice_store.py", (), ("--scans", "16", "--rounds", "1"),
         "all", ("slice_formats.py",)),
    Part("startup", "start-up and imports", "startup_cost.py", (), ("--rounds", "2"), "option"),
    Part("scaling", "cost against size", "scaling.py", (), ("--quick", "--repeats", "1"),
         beside=("scaling_stages.py", "evaluation_cost.py", "prepare.py")),
)  # fmt: skip


def kept(part: Part, path: Path, *, quick: bool, rivals_python: str | None) -> bool:
    """Whether ``path`` holds the part's outcome by these arguments and by today's code."""
    if not path.is_file() or path.stat().st_mtime < part.code_time():
        return False
    found = read(path)
    return not found["failed"] and found["arguments"] == arguments(part, quick, rivals_python)


def arguments(part: Part, quick: bool, rivals_python: str | None) -> list[str]:
    """What decides the part's outcome besides code."""
    rivals = ["rivals"] if part.rivals and rivals_python else []
    return [*(part.quick if quick else part.full), *rivals]


def read(path: Path) -> Outcome:
    """What ``measure`` wrote."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def measure(part: Part, path: Path, *, quick: bool, rivals_python: str | None) -> Outcome:
    """Do the part and write its outcome to ``path``; a part that fails says why."""
    figures = path.with_suffix(".figures.json")
    figures.unlink(missing_ok=True)
    command = part.command(figures, quick=quick, rivals_python=rivals_python)
    busy = busy_seconds()
    ended = run_program(
        command, timeout=_HOURS, environment={"PYTHONUNBUFFERED": "1"}, log=path.with_suffix(".log")
    )
    found: Outcome = {
        "part": part.name,
        "arguments": arguments(part, quick, rivals_python),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "minutes": ended.seconds / 60,
        "others": _others(busy, ended.cpu, ended.seconds),
        "failed": ended.failed,
        "rows": [],
        "left_out": [],
    }
    if not ended.failed:
        found |= json.loads(figures.read_text(encoding="utf-8"))
    figures.unlink(missing_ok=True)
    waiting = path.with_suffix(".tmp")
    waiting.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    os.replace(waiting, path)
    return found


def _others(before: float | None, own: float, seconds: float) -> float | None:
    """Share of the machine that other programs took meanwhile, in per cent; None if unknown."""
    after = busy_seconds()
    if before is None or after is None:
        return None
    return max(0.0, 100 * (after - before - own) / seconds / (os.cpu_count() or 1))


def chosen(names: Iterable[str]) -> list[Part]:
    """The parts of these names, in the order of ``PARTS``; all if none is named."""
    wanted = set(names)
    return [part for part in PARTS if not wanted or part.name in wanted]
