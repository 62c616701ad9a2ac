"""The brains of a cohort's whole heads, found by HD-BET before anything needs them.

That takes longer than all the rest of a preparation. So each distinct head's mask is found once, by
as many processes as memory allows or one on each GPU, and everything later reads it from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from twinvae.config import BrainMask, RecipeStep
from twinvae.errors import DataError, reason_of
from twinvae.imaging.fitted_recipe import check_order, run_steps
from twinvae.imaging.scan import ScanFiles, Working, check_axes
from twinvae.imaging.steps.hdbet import hd_bet_mask, mask_bytes, mask_file
from twinvae.parallel import DIED, Device, Execute, cores, free_memory, gpus, sharing, ways
from twinvae.progress import progress_bar, say

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Job:
    """A whole head, the steps before its brain is sought, and how that is done."""

    scan: ScanFiles
    before: tuple[RecipeStep, ...]
    options: BrainMask
    device: Device


@dataclass(frozen=True)
class _Head:
    """What is known of a head that was read."""

    key: str
    """The same for the same voxels."""
    kept: bool
    """Whether its mask is in the cache."""
    needs_bytes: int


@dataclass
class Brains:
    """What finds the masks that a recipe wants of HD-BET; nothing for any other recipe."""

    steps: Sequence[RecipeStep]
    jobs: int | None = None
    """Processes at most; 1: in this one."""
    dask: str | None = None
    """Address of a Dask scheduler to use instead; its workers must share the cache folder."""
    device: Device = "auto"
    strict: bool = False
    """A head that fails is an error."""
    lost: dict[Path, str] = field(default_factory=dict)
    """Why heads have no mask, by image."""
    _asked: set[Path] = field(default_factory=set)

    def find(self, scans: Iterable[ScanFiles]) -> None:
        """Find the masks of those of ``scans`` that were not asked for before.

        Raises ``ConfigError`` for an impossible recipe or device, and with ``strict`` ``DataError``
        for the first head without a mask.
        """
        check_order(self.steps)
        place, options = next(
            (i, step) for i, step in enumerate(self.steps) if isinstance(step, BrainMask)
        )
        if options.method != "hd_bet":
            return
        # Rows of one image may differ in their tumour masks, which are no matter here.
        images = {
            scan.image: replace(scan, tumour_mask=None)
            for scan in scans
            if scan.image not in self._asked
        }
        if not images:
            return
        self._asked.update(images)
        before = tuple(self.steps[:place])
        todo = [_Job(scan, before, options, self.device) for scan in images.values()]
        self._find_all(self._without_mask(todo))

    def without_lost(self, scans: Sequence[ScanFiles]) -> list[ScanFiles]:
        """``scans`` less those whose mask was sought in vain."""
        return [scan for scan in scans if scan.image not in self.lost]

    def _without_mask(self, todo: Sequence[_Job]) -> dict[str, tuple[int, list[_Job]]]:
        """Of each distinct head that is not in the cache, by key: bytes needed, and its images."""
        heads: dict[_Job, _Head] = {}
        for job, found in self._each("read heads", _read, todo, ways(self.jobs, self.dask)):
            if isinstance(found, str):
                self._lose([job], found)
            else:
                heads[job] = found
        waiting: dict[str, tuple[int, list[_Job]]] = {}
        for job in todo:  # in the manifest's order, not as they finished
            head = heads.get(job)
            if head is not None and not head.kept:
                waiting.setdefault(head.key, (head.needs_bytes, []))[1].append(job)
        return waiting

    def _find_all(self, waiting: dict[str, tuple[int, list[_Job]]]) -> None:
        if not waiting:
            return
        images = {jobs[0]: jobs for _, jobs in waiting.values()}
        at_most = self._at_most(len(images), max(needs for needs, _ in waiting.values()))
        execute = ways(self.jobs, self.dask, at_most=at_most)
        for job, reason in self._each("find brains", _find, list(images), execute):
            if reason is not None:
                self._lose(images[job], reason)

    def _at_most(self, heads: int, needs_bytes: int) -> int | None:
        """How many processes may work at once; None for any number. Says why, where fewer do."""
        if self.dask is not None:
            return None
        asked = cores() if self.jobs is None else self.jobs
        wanted, count, free = min(asked, heads), gpus(self.device), free_memory()
        if count:
            limit, why = count, f"one for each GPU, and there are {count}"
        elif free is None:
            return None
        else:
            limit = free // sharing() // needs_bytes
            why = (
                f"HD-BET takes {needs_bytes / 1e9:.1f} GB for the largest head, and "
                f"{free / sharing() / 1e9:.1f} GB of memory are free"
            )
        if limit < wanted:
            said = f"{max(1, limit)} of {wanted} processes" if wanted > 1 else "short of memory"
            say(f"find brains: {said}: {why}")
        return max(1, limit)

    def _each(
        self,
        label: str,
        work: Callable[[_Job], _Result | str],
        todo: Sequence[_Job],
        execute: Execute,
    ) -> Iterable[tuple[_Job, _Result | str]]:
        """Each job with what came of it, a reason where it failed, behind a progress bar."""
        with (
            progress_bar(label, len(todo)) as bar,
            closing(execute(work, todo, _lost)) as finished,
        ):
            for job, result in finished:
                if self.strict and isinstance(result, str):
                    raise DataError(result)
                yield job, result
                bar.note(job.scan.subject)
                bar.advance()

    def _lose(self, jobs: Sequence[_Job], reason: str) -> None:
        self.lost.update((job.scan.image, reason) for job in jobs)


def _read(job: _Job) -> _Head | str:
    """What is known of a head; the reason when it cannot be read."""
    try:
        head = _head(job)
        told = (head.image, head.spacing_mm, job.options.networks)
        kept = mask_file(*told)
        return _Head(kept.name, kept.is_file(), mask_bytes(head.image.shape, *told[1:]))
    except Exception as error:  # as in prepare: one odd scan must not cost the cohort
        return reason_of(error, job.scan.image)


def _find(job: _Job) -> str | None:
    """Find a head's mask and keep it; the reason when that cannot be done."""
    try:
        head = _head(job)
        hd_bet_mask(head.image, head.spacing_mm, job.options.networks, job.device)
    except Exception as error:  # as above
        return reason_of(error, job.scan.image)
    return None


def _head(job: _Job) -> Working:
    """The scan as the recipe hands it to the step brain_mask."""
    head = run_steps(job.scan, job.before, tuple({} for _ in job.before))
    if not job.before:
        check_axes(head)
    return head


def _lost(job: _Job) -> str:
    return f"{job.scan.image}: {DIED}"
