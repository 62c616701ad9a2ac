"""The stage prepare: every scan of a manifest through the recipe, into one slice store."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from twinvae.cohort import read_manifest
from twinvae.config import RecipeStep
from twinvae.errors import DataError, StageError, TwinvaeError
from twinvae.imaging.fit import fit_recipe
from twinvae.imaging.parts import part_block, part_path, part_scan_row, part_slices, write_part
from twinvae.imaging.recipe import FittedRecipe, prepare_scan
from twinvae.imaging.scan import ScanFiles
from twinvae.imaging.store import SliceStore
from twinvae.progress import progress_bar


@dataclass(frozen=True)
class _Job:
    """One scan, the recipe, and the file its slices go to."""

    scan: ScanFiles
    recipe: FittedRecipe
    part: Path


def prepare_cohort(
    manifest: Path,
    recipe_steps: Sequence[RecipeStep],
    out: Path,
    *,
    jobs: int | None = None,
    strict: bool = False,
) -> SliceStore:
    """Prepare every scan of ``manifest`` into the folder ``out`` (docs/architecture.md, slices/).

    Scans are prepared in ``jobs`` processes (one per core by default; 1 uses no other process);
    each one's slices wait in ``out/parts`` until all are there, so that a run that was killed
    goes on where it stopped and gives the same bytes. A scan that cannot be prepared is skipped
    and listed, with its reason, in ``skipped.tsv`` and the store's ``skipped``; with ``strict``
    it raises ``DataError``, as it does when no scan is left. With more than one job the calling
    script's main module must be importable (``if __name__ == "__main__"``).
    """
    out = Path(out)
    table = read_manifest(manifest, check_files=False)
    unsplit = table.loc[table["split"] == "", "subject"]
    if len(unsplit):
        raise DataError(
            f"{manifest}: expected a split for every scan, found none for subject "
            f"{unsplit.iloc[0]} ({len(unsplit)} scans); run index"
        )
    scans = [ScanFiles.from_row(row) for _, row in table.iterrows()]
    recipe = fit_recipe(recipe_steps, [scan for scan in scans if scan.split == "train"])
    todo = [_Job(scan, recipe, part_path(out / "parts", scan, recipe)) for scan in scans]
    reasons = _run([job for job in todo if not job.part.is_file()], _jobs(jobs), strict, len(todo))
    done = [job for job in todo if job.part not in reasons]
    if not done:
        first = "\n".join(f"  {reason}" for reason in list(reasons.values())[:5])
        raise DataError(f"{manifest}: none of its {len(todo)} scans can be prepared\n{first}")
    store = SliceStore.write(
        out,
        (part_block(job.part) for job in done),
        slices=sum(part_slices(job.part) for job in done),
        size=recipe.crop.size,
        recipe=recipe,
        skipped=[_skipped(job.scan, reasons[job.part]) for job in todo if job.part in reasons],
        extra={"scans.tsv": pd.DataFrame([part_scan_row(job.part, job.scan) for job in done])},
    )
    shutil.rmtree(out / "parts", ignore_errors=True)
    return store


def _skipped(scan: ScanFiles, reason: str) -> dict[str, str]:
    row = {name: getattr(scan, name) for name in ("subject", "session", "source", "role", "split")}
    return {**row, "image": str(scan.image), "reason": " ".join(reason.split())}


def _jobs(asked: int | None) -> int:
    if asked is not None:
        return asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(todo: list[_Job], jobs: int, strict: bool, total: int) -> dict[Path, str]:
    """Prepare what is still to do; the reasons of the scans that could not be, by part."""
    reasons: dict[Path, str] = {}
    outcomes = closing(_outcomes(todo, min(jobs, len(todo))))
    with progress_bar("prepare", total) as bar, outcomes as finished:
        bar.advance(total - len(todo))
        for job, reason in finished:
            if reason is not None:
                if strict:
                    raise DataError(reason)
                reasons[job.part] = reason
            bar.note(job.scan.subject)
            bar.advance()
    return reasons


def _outcomes(todo: list[_Job], jobs: int) -> Generator[tuple[_Job, str | None]]:
    """Each job with the reason why it failed, or None, in the order they finish."""
    if jobs <= 1:
        yield from ((job, _prepare_part(job)) for job in todo)
        return
    context = multiprocessing.get_context("spawn")
    waiting, queue = iter(todo), {}
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        while True:
            for job in waiting:
                queue[pool.submit(_prepare_part, job)] = job
                if len(queue) >= 2 * jobs:  # never more than a few jobs on their way
                    break
            if not queue:
                return
            finished: set[Future[str | None]] = wait(queue, return_when=FIRST_COMPLETED).done
            for future in finished:
                yield queue.pop(future), future.result()
    except BrokenProcessPool:
        raise StageError(
            "prepare: a worker process died, perhaps for lack of memory; run it again to go on "
            "where it stopped, with fewer jobs"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _prepare_part(job: _Job) -> str | None:
    """Prepare one scan into its part; the reason when that cannot be done."""
    try:
        prepared = prepare_scan(job.scan, job.recipe)
    except TwinvaeError as error:
        return str(error)
    except Exception as error:  # one odd scan must not cost the cohort; the reason is reported
        return f"{job.scan.image}: {type(error).__name__}: {error}"
    write_part(job.part, prepared)
    return None
