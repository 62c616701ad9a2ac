"""A study: models × scores × seeds × data, each model trained once, one table, one figure.

Every cell (data, model, seed) is a run of its own in ``OUT/DATA/MODEL/seed-N``, or a
cross-validation; all cells of one set of scans share its prepared slices, and all cells share what
is trained alike (``OUT/trained``).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from twinvae.config import RunConfig, StudyConfig, load_study
from twinvae.errors import PartialFailureError, reason_of
from twinvae.evaluation import OVER_SEEDS_COLUMNS, over_seeds
from twinvae.files import write_table
from twinvae.outputs import claim, locked
from twinvae.parallel import DIED, cores, end_with_parent, share_cores, ways
from twinvae.progress import console, progress_bar, say
from twinvae.reporting.study_figure import study_figure
from twinvae.reporting.style import save_figure
from twinvae.runs.crossval import cross_validate, prepare_folds
from twinvae.runs.folder import Run
from twinvae.runs.stages import Preparing, run_stage
from twinvae.scoring import read_scores


@dataclass(frozen=True)
class Cell:
    """One model on one set of scans with one seed."""

    data: str
    model: str
    seed: int
    config: RunConfig
    folder: Path
    prepared: tuple[Path, ...]
    """Runs whose slices to use: one, or one a fold."""
    pool: Path

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"{self.data}/{self.model}/seed-{self.seed}"

    @property
    def scores(self) -> Path:
        """Its table of scores, there when the cell is done."""
        return self.folder / "scores.tsv"


def run_study(
    path: Path, out: Path | None = None, *, jobs: int | None = None, dask: str | None = None
) -> pd.DataFrame:
    """Do the study of the file ``path`` in the folder ``out``; goes on where it was cut off.

    By default ``out`` is studies/NAME.

    ``jobs`` cells run at once, in processes of their own (by default as many as there are cores;
    one on a GPU); with ``dask`` scans are prepared and cells done by the workers of the Dask
    scheduler at that address, which see the same files under the same paths. Writes ``study.tsv``
    (returned; columns ``data``, ``model`` and those of ``over_seeds``) and ``study.png`` and
    ``.svg``. A cell that fails is reported and left out, and
    ``PartialFailureError`` names it when everything else is done.
    """
    study = load_study(path)
    out = out or Path("studies") / study.name
    place = path.resolve().parent
    plans = [study.run_config(data, None, study.seeds[0], place) for data in study.data]
    claim(out, "study", [given for plan in plans for given in plan.cohort.paths()])
    with locked(out):
        return _studied(study, place, out, jobs, dask)


def _studied(
    study: StudyConfig, folder: Path, out: Path, jobs: int | None, dask: str | None
) -> pd.DataFrame:
    if dask is not None:
        list(ways(dask=dask)(_tried, (), _died))  # no cluster there: say so before anything else
    cells, failed = _prepared_cells(study, folder, out.absolute(), dask)
    failed |= _run_cells([cell for cell in cells if cell.name not in failed], jobs, dask)
    table = _table([cell for cell in cells if cell.name not in failed], failed)
    write_table(out / "study.tsv", table, float_format="%.6g")
    if not table.empty:
        save_figure(study_figure(table), out, "study")
    say(f"{len(cells) - len(failed)} of {len(cells)} cells: {out / 'study.tsv'}, study.png")
    if failed:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise PartialFailureError(f"{len(failed)} of {len(cells)} cells failed\n{lines}")
    return table


def _prepared_cells(
    study: StudyConfig, folder: Path, out: Path, dask: str | None
) -> tuple[list[Cell], dict[str, str]]:
    """Every cell, seeds innermost, once its data are prepared; why some cannot be, by name."""
    cells: list[Cell] = []
    failed: dict[str, str] = {}
    for data in study.data:
        console.print(f"[bold]{data}[/]")
        runs: list[Run] = []
        reason = None
        try:
            runs = _prepared(study, data, folder, out, dask)
        except Exception as error:  # one odd set of scans must not cost the others
            reason = reason_of(error, data)
            say(f"{data} cannot be prepared: {reason}")
        mine = [
            Cell(
                data=data,
                model=model,
                seed=seed,
                config=study.run_config(data, model, seed, folder),
                folder=out / data / model / f"seed-{seed}",
                prepared=tuple(run.folder for run in runs),
                pool=out / "trained",
            )
            for model in study.models
            for seed in study.seeds
        ]
        cells += mine
        if reason is not None:
            failed |= {cell.name: reason for cell in mine}
    return cells, failed


def _prepared(
    study: StudyConfig, data: str, folder: Path, out: Path, dask: str | None
) -> list[Run]:
    """Runs with the slices of a set of scans: one, or one a fold."""
    config = study.run_config(data, None, study.seeds[0], folder)
    whole, folds = Run.create(config, out / data / "prepared"), study.data[data].folds
    if folds is not None:
        return prepare_folds(whole, folds, dask=dask)
    for stage in ("index", "prepare"):
        run_stage(whole, stage, how=Preparing(dask=dask))
    return [whole]


def _run_cells(cells: Sequence[Cell], jobs: int | None, dask: str | None) -> dict[str, str]:
    """Do every cell; the reasons of those that failed, by name."""
    failed: dict[str, str] = {}
    done = _apart(cells, jobs) if dask is None else ways(dask=dask)(_tried, cells, _died)
    with progress_bar("study", len(cells)) as bar, closing(done):
        for cell, reason in done:
            if reason is not None:
                failed[cell.name] = reason
                say(f"{cell.name} failed: {reason}")
            bar.note(cell.name)
            bar.advance()
    return failed


def _apart(cells: Sequence[Cell], jobs: int | None) -> Generator[tuple[Cell, str | None]]:
    """Each cell, ``jobs`` at once, with why it could not be done, as they finish."""
    jobs = jobs or (1 if torch.cuda.is_available() else cores())
    jobs = max(1, min(jobs, len(cells)))
    pool = ThreadPoolExecutor(jobs)
    try:
        started = {pool.submit(_in_own_process, cell, jobs): cell for cell in cells}
        for future in as_completed(started):
            yield started[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _in_own_process(cell: Cell, jobs: int) -> str | None:
    """Do a cell in a process that others do not share, so that its death is its own; why not."""
    own = ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_quietly, initargs=(jobs,)
    )
    with own:
        try:
            return own.submit(_tried, cell).result()
        except BrokenProcessPool:
            return _died(cell)


def _died(_cell: Cell) -> str:
    return DIED


def _quietly(jobs: int) -> None:
    """Set up a process for a cell: its share of the cores, no bars of its own."""
    share_cores(jobs)
    end_with_parent()
    console.quiet = True


def _tried(cell: Cell) -> str | None:
    """Do a cell; why it cannot be done."""
    try:
        run_cell(cell)
    except Exception as error:  # one odd cell must not cost the others
        return reason_of(error, cell.name)
    return None


def run_cell(cell: Cell) -> None:
    """Train, score and set thresholds, unless that is done."""
    prepared = [Run.open(folder) for folder in cell.prepared]
    folds = len(prepared)
    if folds > 1:
        cross_validate(cell.config, cell.folder, folds, pool=cell.pool, prepared=prepared)
        return
    run = Run.create(cell.config, cell.folder, cell.pool)
    run.share_slices(prepared[0])
    for stage in ("train", "score", "calibrate"):
        run_stage(run, stage)


def _table(cells: Sequence[Cell], failed: dict[str, str]) -> pd.DataFrame:
    """What ``over_seeds`` says of each model on each set of scans; ``failed`` grows by the rest."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.model), []).append(cell)
    parts = [pd.DataFrame(columns=["data", "model", *OVER_SEEDS_COLUMNS])]
    with progress_bar("compare", len(groups)) as bar:
        for (data, model), group in groups.items():
            bar.advance()
            try:
                tables = [read_scores(cell.scores) for cell in group]
                found = over_seeds(tables, group[0].config.evaluation)
            except Exception as error:  # as in ``_tried``
                failed |= {cell.name: reason_of(error, f"{data}/{model}") for cell in group}
                continue
            parts.append(found.assign(data=data, model=model)[parts[0].columns])
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]
