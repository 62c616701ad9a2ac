"""The stage prepare: every scan of a manifest through the recipe, into one slice store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import pandas as pd

from twinvae.cohort import read_manifest
from twinvae.config import RecipeStep
from twinvae.errors import ConfigError, DataError, StageError, reason_of
from twinvae.imaging.brains import Brains
from twinvae.imaging.fitted_recipe import FittedRecipe, fit_recipe, learns
from twinvae.imaging.parts import (
    fitted_once,
    forget_reason,
    keep_reason,
    own_parts,
    part_block,
    part_facts,
    part_path,
    part_scan_row,
    part_slices,
    read_reason,
    write_part,
)
from twinvae.imaging.prepared import prepare_scan
from twinvae.imaging.quality import flag_scans, scan_row
from twinvae.imaging.scan import ScanFiles
from twinvae.imaging.store import SliceStore
from twinvae.outputs import remove
from twinvae.parallel import DIED, Device, ways
from twinvae.progress import progress_bar

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Shard:
    """A share of a cohort, for arrays of jobs: ``number`` of ``count``, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `i/n`; raises ``ConfigError``."""
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ConfigError(f"--shard: expected i/n with i from 1 to n, as 3/8, found {text!r}")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[_Item]) -> list[_Item]:
        """Every ``count``-th item: neighbours, often of one size, go to different shards."""
        return list(items[self.number - 1 :: self.count])


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
    dask: str | None = None,
    device: Device = "auto",
    strict: bool = False,
    fresh: bool = False,
) -> SliceStore:
    """Prepare every scan of ``manifest`` into the folder ``out`` (docs/architecture.md, slices/).

    Scans are prepared in ``jobs`` processes (one per core by default; 1 uses no other process) or
    on the Dask cluster at ``dask``; each one's slices wait in ``out/parts`` until all are there,
    so that a run that was killed goes on where it stopped and gives the same bytes. A scan that
    cannot be prepared is skipped and listed, with its reason, in ``skipped.tsv`` and the store's
    ``skipped``; with ``strict`` it raises ``DataError``, as it does when no scan is left. With
    ``fresh`` nothing is taken over from a run that was killed.
    """
    if fresh:
        remove(Path(out) / "parts", own_parts(Path(out) / "parts"))
    scans = _scans(manifest)
    brains = Brains(recipe_steps, jobs, dask, device, strict)
    todo = _jobs(scans, recipe_steps, Path(out), lambda: _with_brains(brains, scans, scans))
    return _merge(manifest, todo, _run(todo, brains), Path(out))


def prepare_shard(
    manifest: Path,
    recipe_steps: Sequence[RecipeStep],
    out: Path,
    shard: Shard,
    *,
    jobs: int | None = None,
    dask: str | None = None,
    device: Device = "auto",
    strict: bool = False,
    fresh: bool = False,
) -> list[str]:
    """Prepare one share of the scans into ``out/parts``; the reasons of those that cannot be.

    Shards may run at the same time on several machines that share the folder; ``merge_shards``
    makes the store. ``device`` and ``fresh``: see ``prepare_cohort``.
    """
    scans = _scans(manifest)
    brains = Brains(recipe_steps, jobs, dask, device, strict)
    own = shard.of(scans)
    todo = shard.of(_jobs(scans, recipe_steps, Path(out), lambda: _with_brains(brains, own, scans)))
    if fresh:
        remove(Path(out) / "parts", [job.part for job in todo])
    reasons = _run(todo, brains)
    for job in todo:
        if job.part in reasons:
            keep_reason(job.part, reasons[job.part])
        else:
            forget_reason(job.part)
    return list(reasons.values())


def merge_shards(
    manifest: Path, recipe_steps: Sequence[RecipeStep], out: Path, *, strict: bool = False
) -> SliceStore:
    """Make the store of what the shards prepared, the same bytes as without shards.

    Raises ``StageError`` when a scan was not tried by any shard.
    """
    scans = _scans(manifest)
    todo = _jobs(scans, recipe_steps, Path(out), lambda: scans)
    waiting = [job for job in todo if not job.part.is_file()]
    reasons = {job.part: read_reason(job.part) for job in waiting}
    lost = [job.scan.subject for job in waiting if reasons[job.part] is None]
    if lost:
        raise StageError(
            f"{out}: expected every scan to be prepared by a shard, found {len(lost)} of "
            f"{len(todo)} that are not, first subject {lost[0]}; run the shards that are missing"
        )
    known = {part: reason for part, reason in reasons.items() if reason is not None}
    if strict and known:
        raise DataError(next(iter(known.values())))
    return _merge(manifest, todo, known, Path(out))


def _scans(manifest: Path) -> list[ScanFiles]:
    """Every scan of the manifest; ``DataError`` when one has no split."""
    table = read_manifest(manifest, check_files=False)
    unsplit = table.loc[table["split"] == "", "subject"]
    if len(unsplit):
        raise DataError(
            f"{manifest}: expected a split for every scan, found none for subject "
            f"{unsplit.iloc[0]} ({len(unsplit)} scans); run index"
        )
    return [ScanFiles.from_row(row) for _, row in table.iterrows()]


def _with_brains(
    brains: Brains, own: Sequence[ScanFiles], scans: Sequence[ScanFiles]
) -> list[ScanFiles]:
    """``scans``, once the brains of ``own`` are found, less those that have none.

    A shard finds its own first; by then other shards, beside it, have found the rest.
    """
    brains.find(own)
    return brains.without_lost(scans)


def _jobs(
    scans: Sequence[ScanFiles],
    recipe_steps: Sequence[RecipeStep],
    out: Path,
    for_fitting: Callable[[], Sequence[ScanFiles]],
) -> list[_Job]:
    """A job for every scan, with the recipe fitted on the training scans.

    ``for_fitting`` gives the scans that can be read, and is asked only when something learns.
    """

    def fit() -> FittedRecipe:
        return fit_recipe(recipe_steps, for_fitting() if learns(recipe_steps) else ())

    train = [scan for scan in scans if scan.split == "train"]
    parts = out.resolve() / "parts"
    recipe = fitted_once(parts, recipe_steps, train, fit)
    return [_Job(scan, recipe, part_path(parts, scan, recipe)) for scan in scans]


def _run(todo: Sequence[_Job], brains: Brains) -> dict[Path, str]:
    """Prepare what is still to do; the reasons of the scans that could not be, by part."""
    left = [job for job in todo if not job.part.is_file()]
    brains.find(job.scan for job in left)
    lost = brains.lost
    reasons = {job.part: lost[job.scan.image] for job in left if job.scan.image in lost}
    able = [job for job in left if job.part not in reasons]
    outcomes = closing(ways(brains.jobs, brains.dask)(_prepare_part, able, _lost))
    with progress_bar("prepare", len(todo)) as bar, outcomes as finished:
        bar.already(len(todo) - len(able))
        for job, reason in finished:
            if reason is not None:
                if brains.strict:
                    raise DataError(reason)
                reasons[job.part] = reason
            bar.note(job.scan.subject)
            bar.advance()
    return reasons


def _lost(job: _Job) -> str:
    return f"{job.scan.image}: {DIED}"


def _prepare_part(job: _Job) -> str | None:
    """Prepare one scan into its part; the reason when that cannot be done."""
    try:
        prepared = prepare_scan(job.scan, job.recipe)
    except Exception as error:  # one odd scan must not cost the cohort; the reason is reported
        return reason_of(error, job.scan.image)
    write_part(job.part, prepared)
    return None


def _merge(manifest: Path, todo: Sequence[_Job], reasons: dict[Path, str], out: Path) -> SliceStore:
    """One store of all parts, in the manifest's order; the parts are gone afterwards."""
    done = [job for job in todo if job.part not in reasons]
    lost = [job for job in done if not job.part.is_file()]
    if lost:
        raise StageError(
            f"{lost[0].part}: expected what a worker wrote, found no such file; workers must see "
            f"this folder under the same path"
        )
    if not done:
        first = "\n".join(f"  {reason}" for reason in list(reasons.values())[:5])
        raise DataError(f"{manifest}: none of its {len(todo)} scans can be prepared\n{first}")
    recipe = done[0].recipe
    store = SliceStore.write(
        out,
        (part_block(job.part) for job in done),
        slices=sum(part_slices(job.part) for job in done),
        size=recipe.crop.size,
        recipe=recipe,
        skipped=[_skipped(job.scan, reasons[job.part]) for job in todo if job.part in reasons],
        extra={
            "scans.tsv": pd.DataFrame([part_scan_row(job.part, job.scan) for job in done]),
            "qc.tsv": flag_scans(_looked_at(job, reasons.get(job.part)) for job in todo),
        },
    )
    remove(out / "parts", own_parts(out / "parts"))
    return store


def _looked_at(job: _Job, reason: str | None) -> dict[str, Any]:
    """What quality control knows of a scan."""
    if reason is not None:
        return {**scan_row(job.scan), "failed": "not_prepared", "why": " ".join(reason.split())}
    return {**scan_row(job.scan), **part_facts(job.part)}


def _skipped(scan: ScanFiles, reason: str) -> dict[str, str]:
    row = {name: getattr(scan, name) for name in ("subject", "session", "source", "role", "split")}
    return {**row, "image": str(scan.image), "reason": " ".join(reason.split())}
