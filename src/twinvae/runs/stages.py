"""The stages in order. Read this first.

    index → prepare → train ×2 → score → calibrate → evaluate → report

Every stage reads files that earlier ones wrote and writes its own atomically (``Run`` says where);
a stage whose settings and inputs have not changed is skipped, one that was cut off goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinvae.cohort import (
    add_tumour_free,
    assign_splits,
    empty_splits,
    index_sources,
    read_manifest,
    require_contrast,
    write_manifest,
)
from twinvae.config import SourceConfig, SplitConfig, recipe_files
from twinvae.decision import Calibration, calibrate
from twinvae.detection.seen import Seen
from twinvae.errors import ConfigError, DataError, PartialFailureError, some_of
from twinvae.evaluation import MaskedSlices, audit, evaluate, evaluate_pixels, write_metrics
from twinvae.files import checksum, file_state, read_json, write_json
from twinvae.imaging import Shard, SliceStore, merge_shards, prepare_cohort, prepare_shard
from twinvae.imaging.quality import read_flags
from twinvae.outputs import check_new_file, remove
from twinvae.progress import console, say
from twinvae.runs.checks import refuse_leaks, say_flags
from twinvae.runs.folder import STAGES, Run
from twinvae.runs.pack import write_bundle
from twinvae.scoring import (
    Models,
    map_rows,
    read_scores,
    score_and_fit,
    scored_rows,
    select_maps,
    select_scores,
    write_fitted,
    write_maps,
    write_scores,
)
from twinvae.training import Compute, check_networks, train_twins


def run_stages(run: Run, *, until: str | None = None, strict: bool = False) -> None:
    """Do every stage up to ``until``, then raise ``PartialFailureError`` if scans were skipped.

    Raises ``StageError`` while another process works in the run's folder.
    """
    if until is not None:
        _require_stage(until, "until")
    check_networks(run.config)
    stages = STAGES[: STAGES.index(until or "report") + 1]
    with run.alone():
        for stage in stages:
            started = time.monotonic()
            done = run_stage(run, stage, strict=strict)
            spent = f"{time.monotonic() - started:.1f} s" if done else "nothing changed"
            console.print(f"[bold]{stage:10}[/] {spent}")
    if "report" in stages:
        say(f"report: {run.folder / 'report.html'}")
    if "prepare" in stages:
        raise_if_skipped(run)


@dataclass(frozen=True)
class Preparing:
    """How scans are prepared; changes where and when the work is done, not the slices."""

    strict: bool = False
    """A broken scan is an error."""
    jobs: int | None = None
    """Processes; by default as configured."""
    dask: str | None = None
    """Address of a Dask scheduler to use instead."""
    merge: bool = False
    """Only put together what shards prepared."""


def run_stage(
    run: Run, stage: str, *, force: bool = False, strict: bool = False, how: Preparing | None = None
) -> bool:
    """Do one stage unless it is done; returns whether there was anything to do.

    ``force`` does it from its start even so. The caller holds ``run.alone()``. Raises
    ``ConfigError`` for a stage that is none of ``STAGES``, ``StageError`` when one before it is not
    done.
    """
    _require_stage(stage, "stage")
    how = how or Preparing(strict=strict)
    works: dict[str, Callable[[], None]] = {
        "index": lambda: index(run),
        "prepare": lambda: prepare(run, how, fresh=force),
        "train": lambda: train(run, fresh=force),
        "score": lambda: score(run),
        "calibrate": lambda: set_thresholds(run),
        "evaluate": lambda: judge(run),
        "report": lambda: report(run),
    }
    # Scans on disk may come and go at any time, so they are listed anew on every run; what follows
    # is redone only if the list, or a file in it, is another one.
    listing = stage == "index" and not _generated(run)
    return run.stage(stage, works[stage], extra=_read(run, stage), listing=listing, force=force)


def _require_stage(name: str, where: str) -> None:
    if name not in STAGES:
        raise ConfigError(f"{where}: expected one of {', '.join(STAGES)}, found {name!r}")


def write_index(
    sources: Sequence[SourceConfig],
    contrast: str,
    split: SplitConfig,
    out: Path,
    *,
    append: bool = False,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Index ``sources`` into the manifest ``out``, after what is there already when ``append``.

    Raises ``OutputError`` when ``out`` exists, without ``append`` and ``overwrite``.
    """
    check_new_file(out, [source.path for source in sources], overwrite=append or overwrite)
    before = read_manifest(out) if append and out.is_file() else None
    if before is not None:
        require_contrast(before, contrast, str(out))
    table = index_sources(sources, contrast, split, before)
    write_manifest(table, out)
    _say_empty_splits(table, split)
    return table


def _say_empty_splits(table: pd.DataFrame, split: SplitConfig) -> None:
    for sentence in empty_splits(table, split):
        say(f"warning: {sentence}")


def index(run: Run) -> None:
    """Generate the cohort if asked to, and list all scans with their splits.

    Raises ``DataError`` when a scan is said to be of another contrast than the run's.
    """
    cohort = run.config.cohort
    if cohort.manifest is not None:
        given = read_manifest(cohort.manifest)
        require_contrast(given, run.config.contrast, str(cohort.manifest))
        table = assign_splits(given, cohort.split)
    else:
        table = index_sources(_sources(run), run.config.contrast, cohort.split)
    if cohort.tumour_free_as_healthy:
        table = add_tumour_free(table)
    write_manifest(table, run.manifest)
    _say_empty_splits(table, cohort.split)


def _sources(run: Run) -> Sequence[SourceConfig]:
    cohort = run.config.cohort
    if cohort.phantom is None:
        return cohort.sources
    from twinvae.cohort.phantom import generate_cohort

    folder = run.folder / "cohort"
    generate_cohort(folder, cohort.phantom, jobs=run.config.compute.jobs)
    return (
        SourceConfig(path=folder / "healthy", role="healthy", layout="bids"),
        SourceConfig(path=folder / "mixed", role="mixed", layout="bids"),
    )


def prepare(run: Run, how: Preparing, *, fresh: bool = False) -> None:
    """Turn every scan into slices by the recipe; draw contact sheets and say what is flagged."""
    from twinvae.reporting.contact_sheets import write_contact_sheets

    cohort = (run.manifest, run.config.recipe, run.slices)
    if how.merge:
        store = merge_shards(*cohort, strict=how.strict)
    else:
        store = prepare_cohort(*cohort, **_where(run, how), strict=how.strict, fresh=fresh)
    flags = read_flags(run.flags)
    write_contact_sheets(store, flags, run.slices / "qc")
    say_flags(flags, run.flags)


def _where(run: Run, how: Preparing) -> dict[str, Any]:
    """On what scans are prepared."""
    compute = run.config.compute
    return {"jobs": how.jobs or compute.jobs, "dask": how.dask, "device": compute.device}


def run_shard(run: Run, shard: Shard, how: Preparing, *, force: bool = False) -> bool:
    """Prepare a share of the scans, unless the stage is done; ``merge_shards`` finishes it.

    Raises ``PartialFailureError`` when some of them cannot be prepared.
    """
    if not run.pending("prepare", _read(run, "prepare")) and not force:
        return False
    cohort = (run.manifest, run.config.recipe, run.slices)
    lost = prepare_shard(*cohort, shard, **_where(run, how), strict=how.strict, fresh=force)
    _raise_if_lost(lost, "--merge lists them in skipped.tsv")
    return True


def train(run: Run, *, fresh: bool = False) -> None:
    """Fit VAE-H on healthy slices and VAE on mixed slices, or one model that serves as both."""
    train_twins(run.config, SliceStore.open(run.slices), run.models, run.pool, fresh=fresh)


def score(run: Run) -> None:
    """Compute every score for the slices that thresholds and tests need.

    Raises ``DataError`` when a test scan is a training scan under another name.
    """
    refuse_leaks(run.flags, run.starts.values())
    options = run.config.scoring
    compute = Compute.resolve(run.config.compute)
    store = SliceStore.open(run.slices)
    rows = scored_rows(store)
    models = Models.load(run.models).to(compute.device)
    scores = select_scores(options.scores, models)
    maps = select_maps(options.maps, models)
    table, fitted = score_and_fit(store, rows, models, scores, options, compute, label="score")
    write_fitted(run.fitted, fitted)
    remove(run.maps)
    if maps:
        write_maps(run.maps, store, models, maps, options, compute, fitted)
    write_scores(run.scores, table)


def set_thresholds(run: Run) -> None:
    """Set thresholds from healthy validation slices, and pack the bundle for detection."""
    write_json(run.calibration, calibrate(read_scores(run.scores), run.config.decision))
    write_bundle(run)


def judge(run: Run) -> None:
    """Metrics and audit on the test subjects.

    Raises ``DataError`` when no mixed subject is one, or a test scan is a training scan under
    another name.
    """
    refuse_leaks(run.flags, run.starts.values())
    scores, calibration = read_scores(run.scores), Calibration(read_json(run.calibration))
    if not ((scores["role"] == "mixed") & (scores["split"] == "test")).any():
        raise DataError(
            f"{run.scores}: expected slices of the role mixed and the split test to judge, found "
            f"none; list more mixed subjects (the bundle can be used without)"
        )
    options = run.config.evaluation
    metrics = evaluate(scores, calibration, options)
    if run.maps.is_dir():
        metrics = pd.concat([metrics, judge_pixels(run)], ignore_index=True)
    write_metrics(run.folder / "metrics.tsv", metrics)
    scans = pd.read_csv(run.scans, sep="\t") if run.scans.is_file() else None
    write_json(run.folder / "audit.json", audit(scores, calibration, options, scans=scans))


def judge_pixels(run: Run) -> pd.DataFrame:
    """Metrics of the run's maps against the tumour masks, on the prepared grid."""
    store = SliceStore.open(run.slices)
    rows = map_rows(store)
    maps = {path.stem: np.load(path, mmap_mode="r") for path in sorted(run.maps.glob("*.npy"))}
    slices = MaskedSlices(store.brain, store.tumour, rows, store.index.iloc[rows])
    return evaluate_pixels(maps, slices, run.config.evaluation)


def report(run: Run) -> None:
    """Draw the figures and write the page."""
    from twinvae.reporting.report import write_report
    from twinvae.runs.report_data import report_material

    write_report(report_material(run), run.folder)


def raise_if_skipped(run: Run) -> None:
    """Raise ``PartialFailureError`` naming the scans that could not be prepared, if any."""
    skipped = SliceStore.open(run.slices).skipped
    _raise_if_lost(skipped["reason"].tolist(), f"see {run.slices / 'skipped.tsv'}")


def _raise_if_lost(reasons: Sequence[str], where: str) -> None:
    if reasons:
        listed = some_of(reasons, 10, joint="\n  ")
        raise PartialFailureError(f"{len(reasons)} scans were skipped, {where}\n  {listed}")


def _generated(run: Run) -> bool:
    """Whether the run's scans are of its own making, and all there."""
    if run.config.cohort.phantom is None or not run.manifest.is_file():
        return False
    return all(path.exists() for path in _scan_files(run))


def _read(run: Run, stage: str) -> Any:
    """What the stage reads besides what earlier ones wrote, as it is now."""
    labels = run.config.cohort.phantom and run.config.cohort.phantom.labels
    if stage == "index" and labels:
        return file_state(labels)
    if stage == "prepare":
        files = [*_scan_files(run), *recipe_files(run.config.recipe)]
        return [file_state(path) for path in files]
    if stage == "train":
        trainings = (run.config.training.healthy, run.config.training.mixed)
        starts = [t.start / "weights.safetensors" for t in trainings if t.start is not None]
        # One that is not there is named by the training itself; most runs start from none.
        return [checksum(path) if path.is_file() else "" for path in starts] or None
    if stage in ("score", "calibrate", "evaluate"):
        return [Seen.of_weights(folder).to_json() for folder in run.starts.values()] or None
    if stage == "report":
        return [checksum(run.folder / name) for name in ("config.yaml", "run.json")]
    return None


def _scan_files(run: Run) -> list[Path]:
    """Every file and folder that the manifest names."""
    if not run.manifest.is_file():
        return []
    table = read_manifest(run.manifest, check_files=False)
    return [Path(p) for name in ("image", "brain_mask", "tumour_mask") for p in table[name] if p]
