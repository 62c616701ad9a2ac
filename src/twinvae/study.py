"""A study: models × scores × seeds × data, each model trained once, one table, one figure.

Every cell (data, model, seed) is a run of its own in ``OUT/DATA/MODEL/seed-N``, or a
cross-validation; all cells of one set of scans share its prepared slices, and all cells share what
is trained alike (``OUT/trained``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from twinvae.config import RunConfig
from twinvae.config.study import StudyConfig, load_study
from twinvae.crossval import cross_validate, prepare_folds
from twinvae.errors import PartialFailureError, TwinvaeError
from twinvae.evaluation import OVER_SEEDS_COLUMNS, over_seeds
from twinvae.files import write_table
from twinvae.outputs import claim, locked
from twinvae.pipeline import run_stage
from twinvae.progress import console, progress_bar, say
from twinvae.reporting import study_figure
from twinvae.reporting.style import save_figure
from twinvae.run import Run
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


def run_study(path: Path, out: Path | None = None, *, jobs: int | None = None) -> pd.DataFrame:
    """Do the study of the file ``path`` in the folder ``out``; goes on where it was cut off.

    By default ``out`` is studies/NAME.

    ``jobs`` cells run at once, in processes of their own (by default as many as there are cores;
    one on a GPU). Writes ``study.tsv`` (returned; columns ``data``, ``model`` and those of
    ``over_seeds``) and ``study.png`` and ``.svg``. A cell that fails is reported and left out, and
    ``PartialFailureError`` names it when everything else is done.
    """
    study = load_study(path)
    out = out or Path("studies") / study.name
    place = path.resolve().parent
    plans = [study.run_config(data, None, study.seeds[0], place) for data in study.data]
    claim(out, "study", [given for plan in plans for given in plan.cohort.paths()])
    with locked(out):
        return _studied(study, place, out, jobs)


def _studied(study: StudyConfig, folder: Path, out: Path, jobs: int | None) -> pd.DataFrame:
    cells = list(_prepared_cells(study, folder, out))
    failed = _run_cells(cells, jobs)
    table = _table([cell for cell in cells if cell.name not in failed])
    write_table(out / "study.tsv", table, float_format="%.6g")
    if not table.empty:
        save_figure(study_figure(table), out, "study")
    say(f"{len(cells) - len(failed)} of {len(cells)} cells: {out / 'study.tsv'}, study.png")
    if failed:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise PartialFailureError(f"{len(failed)} of {len(cells)} cells failed\n{lines}")
    return table


def _prepared_cells(study: StudyConfig, folder: Path, out: Path) -> Iterator[Cell]:
    """Every cell, seeds innermost, once the slices of its data are prepared."""
    for data, scans in study.data.items():
        whole = Run.create(
            study.run_config(data, None, study.seeds[0], folder), out / data / "prepared"
        )
        console.print(f"[bold]{data}[/]")
        if scans.folds is None:
            runs = [whole]
            for stage in ("index", "prepare"):
                run_stage(whole, stage)
        else:
            runs = prepare_folds(whole, scans.folds)
        for model in study.models:
            for seed in study.seeds:
                yield Cell(
                    data=data,
                    model=model,
                    seed=seed,
                    config=study.run_config(data, model, seed, folder),
                    folder=out / data / model / f"seed-{seed}",
                    prepared=tuple(run.folder for run in runs),
                    pool=out / "trained",
                )


def _run_cells(cells: Sequence[Cell], jobs: int | None) -> dict[str, str]:
    """Do every cell; the reasons of those that failed, by name."""
    cores = os.cpu_count() or 1
    jobs = jobs or (1 if torch.cuda.is_available() else cores)
    failed: dict[str, str] = {}
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_quietly, initargs=(cores // jobs,)
    )
    with pool, progress_bar("study", len(cells)) as bar:
        waiting = {pool.submit(run_cell, cell): cell for cell in cells}
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                cell = waiting.pop(future)
                try:
                    future.result()
                except (TwinvaeError, BrokenProcessPool) as error:
                    failed[cell.name] = str(error) or type(error).__name__
                    say(f"{cell.name} failed: {failed[cell.name]}")
                bar.note(cell.name)
                bar.advance()
    return failed


def _quietly(threads: int) -> None:
    """Set up a process for cells: its share of the cores, no bars of its own."""
    torch.set_num_threads(max(1, threads))
    console.quiet = True


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


def _table(cells: Sequence[Cell]) -> pd.DataFrame:
    """What ``over_seeds`` says of each model on each set of scans."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.model), []).append(cell)
    parts = [pd.DataFrame(columns=["data", "model", *OVER_SEEDS_COLUMNS])]
    with progress_bar("compare", len(groups)) as bar:
        for (data, model), group in groups.items():
            tables = [read_scores(cell.scores) for cell in group]
            found = over_seeds(tables, group[0].config.evaluation)
            parts.append(found.assign(data=data, model=model)[parts[0].columns])
            bar.advance()
    filled = [part for part in parts if not part.empty]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]
