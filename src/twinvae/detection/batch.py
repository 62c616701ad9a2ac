"""Scans judged as planned: here or in processes, those of earlier calls kept, broken ones skipped.

What is done with one task (``Work``) is ``detect``'s or ``detect_patients``'s to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from rich.markup import escape

from twinvae import __version__
from twinvae.decision import ScanVerdict
from twinvae.detection.bundle import Bundle, read_bundle
from twinvae.detection.composite import Composite, read_composite
from twinvae.detection.kept import made_from
from twinvae.detection.look import Reader
from twinvae.detection.options import DetectOptions
from twinvae.detection.place import alone
from twinvae.detection.plan import Plan, Task
from twinvae.detection.privacy import Cover, called
from twinvae.detection.results import add_to_summary, results, say_warnings
from twinvae.detection.shipped import is_composite
from twinvae.errors import DataError, PartialFailureError
from twinvae.files import read_json
from twinvae.parallel import DIED, Execute, cores, free_memory, gpus, share_cores, ways
from twinvae.progress import console, progress_bar, say

_TAKES_BYTES = 2 * 2**30  # by a process at most, with a scan of 30 million voxels
_PAYS = 4  # scans a process: it starts for some seconds
_TOLD = (
    *("contrasts", "verdict", "abnormal", "score", "statistic", "value", "threshold", "p_value"),
    *("highest_slice", "abnormal_slices", "slices", "domain", "left_out"),
)
"""What of verdict.json stands in the JSON of all results."""


class Found(Protocol):
    """What was found in the scans of one task."""

    @property
    def name(self) -> str:
        """What the results are called."""
        ...

    @property
    def folder(self) -> Path:
        """Where they were written."""
        ...

    @property
    def verdict(self) -> ScanVerdict | None:
        """None out of domain."""
        ...

    def summary(self) -> dict[str, Any]:
        """Its row of summary.tsv."""
        ...


One = TypeVar("One", bound=Found)


@dataclass(frozen=True)
class Skipped:
    """A scan that could not be used."""

    scan: str
    reason: str


@dataclass(frozen=True)
class Outcome(Generic[One]):
    """What became of a task."""

    found: One | None
    said: tuple[str, ...] = ()
    """What qualifies the verdict."""
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Report(Generic[One]):
    """What became of all tasks, in their order."""

    plan: Plan
    found: list[One]
    skipped: list[Skipped]

    def require_all(self) -> None:
        """Raise ``PartialFailureError`` when scans were skipped, ``DataError`` when all were."""
        if self.skipped:
            kind = PartialFailureError if self.found else DataError
            reasons = "\n  ".join(one.reason for one in self.skipped)
            raise kind(f"{len(self.skipped)} of {self.plan.scans} scans skipped:\n  {reasons}")

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values; of each result what its own verdict.json says, in short."""
        tasks = {task.name: task for task in self.plan.tasks}
        with alone(self.plan.out) if self.found else nullcontext():
            found = [_short(one, tasks[one.name]) for one in self.found]
        return {
            "twinvae": __version__,
            "bundle": str(self.plan.bundle),
            "note": "Research software, not for clinical use.",
            "results": found,
            "skipped": [vars(one) for one in self.skipped],
        }


def _short(one: Found, task: Task) -> dict[str, Any]:
    said = read_json(task.place.path("verdict.json"))
    images = {"image": said["scan"]} if "scan" in said else {"images": said["scans"]}
    return {
        "name": one.name,
        **images,
        "folder": str(one.folder),
        **{key: said[key] for key in _TOLD if key in said},
        "warnings": made_from(task.place).get("said", []),
        "kept": task.kept,
    }


@dataclass
class Desk:
    """What one process judges with: the bundle, and its readers, each made when first needed."""

    bundle: Path
    options: DetectOptions
    composite: Composite | None = None
    """None for a bundle of one contrast."""
    _members: dict[str, Bundle] = field(default_factory=dict)
    _readers: dict[tuple[str, bool], Reader] = field(default_factory=dict)

    def reader(self, contrast: str, *, masked: bool) -> Reader:
        """What looks at scans of ``contrast``, with a brain mask or without."""
        strip = False if masked else self.options.skull_strip
        known = (contrast, bool(strip))
        if known not in self._readers:
            if contrast not in self._members:
                self._members[contrast] = (
                    read_bundle(self.bundle)
                    if self.composite is None
                    else self.composite.members([contrast])[contrast]
                )
            self._readers[known] = Reader.of(
                self._members[contrast],
                maps=self.options.maps,
                device=self.options.device,
                threads=self.options.threads,
                skull_strip=strip,
            )
        return self._readers[known]

    def readers(self, task: Task) -> dict[str, Reader]:
        """Contrast → what looks at that scan of the task, in the bundle's order."""
        order = task.scans if self.composite is None else self.composite.contrasts
        return {
            contrast: self.reader(contrast, masked=task.scans[contrast].brain_mask is not None)
            for contrast in order
            if contrast in task.scans
        }


@dataclass(frozen=True)
class Job:
    """A task, as it is handed to whoever does it."""

    task: Task
    bundle: Path
    options: DetectOptions
    dicom: bool
    among: int
    """Processes of this machine that work at once."""
    folder: Path
    """Where the call was made; paths are relative to it."""

    def desk(self) -> Desk:
        """The desk of this process, which takes its share of the cores where others work, too."""
        if Path.cwd() != self.folder:  # that of a Dask worker is its own
            os.chdir(self.folder)
        if self.among > 1:
            share_cores(self.among)
        return _desk(self.bundle, self.options, self.task.made_by["bundle_sha256"])


Work = Callable[[Job], Outcome[One]]


@lru_cache(maxsize=1)
def _desk(bundle: Path, options: DetectOptions, content: str) -> Desk:
    """``content``: the bundle's checksum; a worker of a cluster outlives a bundle packed anew."""
    del content
    return Desk(bundle, options, read_composite(bundle) if is_composite(bundle) else None)


def run(plan: Plan, work: Work[One], recall: Callable[[Task], One]) -> Report[One]:
    """Do every task of ``plan``: ``recall`` those that are kept, ``work`` on the others.

    Rows of all are in the summary, even if this is interrupted. With ``plan.options.strict`` what
    ``work`` raises ends everything.
    """
    for note in plan.notes:
        say(note)
    todo = [task for task in plan.tasks if not task.kept]
    among, execute = _way(plan.options, len(todo))
    where = (plan.bundle, plan.options, plan.dicom, among, Path.cwd())
    jobs = [Job(task, *where) for task in todo]
    outcomes: dict[str, Outcome[One]] = {}
    with results(plan.out, list(plan.places.values()), plan.inputs, plan.dataset):
        with alone(plan.out):
            for task in plan.tasks:
                if task.kept:
                    outcomes[task.name] = Outcome(recall(task))
        if outcomes:
            say(f"kept {len(outcomes)} of {len(plan.tasks)} results of an earlier call (--again)")
        try:
            with (
                progress_bar("detect", len(todo), hidden=len(todo) < 2) as bar,
                closing(execute(work, jobs, _lost)) as finished,
            ):
                for job, outcome in finished:
                    outcomes[job.task.name] = outcome
                    _tell(job.task, outcome)
                    bar.note(job.task.name)
                    bar.advance()
        finally:
            _desk.cache_clear()
            inorder = [outcomes[task.name] for task in plan.tasks if task.name in outcomes]
            found = [one.found for one in inorder if one.found is not None]
            add_to_summary(plan.out, [plan.places[one.name] for one in found], plan.dataset)
    return Report(plan, found, [each for one in inorder for each in one.skipped])


def _way(options: DetectOptions, scans: int) -> tuple[int, Execute]:
    """How many processes of this machine work at once, and where."""
    if options.dask is None:
        among = processes(options, scans)
        return among, ways(among)
    cluster = ways(dask=options.dask)
    list(cluster(_lost, (), _lost))  # no cluster there: say so before anything is claimed
    return 1, cluster


def processes(options: DetectOptions, scans: int) -> int:
    """How many judge so many scans; where the options leave it open, as many as pay and fit.

    One on a GPU, which a process fills, and with HD-BET, which uses all cores and much memory.
    """
    if options.jobs is not None:
        return max(1, min(options.jobs, scans))
    if options.skull_strip in (True, "hd_bet") or gpus(options.device or "auto"):
        return 1
    free = free_memory()
    fit = cores() if free is None else free // _TAKES_BYTES
    return max(1, min(cores(), scans // _PAYS, fit))


def _tell(task: Task, outcome: Outcome[Any]) -> None:
    """Say aloud what qualifies a verdict, and why scans were skipped."""
    for one in outcome.skipped:
        console.print(f"[red]skipped[/] {escape(one.reason)}", soft_wrap=True)
    say_warnings(task.name, outcome.said)


def _lost(job: Job) -> Outcome[Any]:
    return Outcome(None, skipped=skipped_all(job.task, {c: DIED for c in job.task.scans}))


def skipped_all(task: Task, reasons: Mapping[str, str]) -> tuple[Skipped, ...]:
    """The scans of some contrasts of a task, and why they were skipped."""
    found = []
    for contrast, reason in reasons.items():
        image = task.scans[contrast].image
        name, said = called(image), Cover.of(image).text(reason)
        found.append(Skipped(name, said if name in said else f"{name}: {said}"))
    return tuple(found)
