"""Cross-validation over mixed subjects: for cohorts where few have a tumour mask.

Every mixed subject with a mask is tested once, by a mixed model that never saw it; subjects without
a mask only help to train. The healthy source keeps its own split, so VAE-H is trained once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from twinvae.cohort import TUMOUR_FREE, read_manifest, write_manifest
from twinvae.config import CohortConfig, RunConfig
from twinvae.decision import calibrate
from twinvae.errors import ConfigError, PartialFailureError, reason_of
from twinvae.files import read_json, write_json
from twinvae.outputs import claim
from twinvae.progress import console, say
from twinvae.reporting.report import ReportMaterial, write_report
from twinvae.runs.folder import Run
from twinvae.runs.report_data import judged_tables
from twinvae.runs.stages import Preparing, judge, raise_if_skipped, run_stage
from twinvae.scoring import read_scores, write_scores
from twinvae.scoring.table import score_columns
from twinvae.training import check_networks
from twinvae.vocabulary import SUBJECT_KEY

_BRAIN_AREA = "trivial_brain_area"  # in mm², so on one scale in every fold already


def cross_validate(
    config: RunConfig,
    folder: Path,
    folds: int,
    *,
    strict: bool = False,
    pool: Path | None = None,
    prepared: Sequence[Run] = (),
) -> Run:
    """Run ``config`` once per fold in ``folder/fold-0`` …, pool the test scores and judge them.

    ``folder`` then holds scores.tsv, calibration.json, metrics.tsv, audit.json and report.html of
    the pooled scores; see ``pooled_scores`` for how they are made comparable. Goes on where it was
    cut off. Raises ``PartialFailureError`` at the end when scans were skipped, and
    ``ConfigError`` when ``folds`` is not between 2 and the number of mixed subjects with a mask.

    ``pool`` keeps trained models (by default ``folder/trained``): a VAE-H that all folds
    train alike is trained once. ``prepared``: runs of ``prepare_folds`` whose slices to use.
    """
    check_networks(config)
    whole = Run.create(config, folder, pool or folder / "trained", kind="cross-validation")
    with whole.alone():
        return _cross_validated(whole, folds, prepared, strict=strict)


def _cross_validated(whole: Run, folds: int, prepared: Sequence[Run], *, strict: bool) -> Run:
    failed: dict[str, str] = {}
    runs = [_fold_on(whole, other) for other in prepared] or prepare_folds(whole, folds, strict)
    for number, run in enumerate(runs):
        console.print(f"[bold]fold {number + 1} of {folds}[/]")
        try:
            for stage in ("train", "score", "calibrate"):
                run_stage(run, stage)
        except Exception as error:  # the other folds are done all the same
            failed[f"fold {number + 1}"] = reason_of(error, run.folder)
            say(f"fold {number + 1} failed: {failed[f'fold {number + 1}']}")
    if failed:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        raise PartialFailureError(
            f"{len(failed)} of {folds} folds failed, so their test scores cannot be pooled with "
            f"the others'; run it again to go on\n{lines}"
        )
    write_scores(whole.scores, pooled_scores(runs))
    write_json(whole.calibration, calibrate(read_scores(whole.scores), whole.config.decision))
    judge(whole)
    write_report(_material(whole, folds), whole.folder)
    say(f"report: {whole.folder / 'report.html'}")
    raise_if_skipped(runs[0])  # the same scans fail in every fold
    return whole


def prepare_folds(
    whole: Run, folds: int, strict: bool = False, dask: str | None = None
) -> list[Run]:
    """Index the scans and prepare them for every fold in ``fold-0`` … of ``whole``'s folder."""
    how = Preparing(strict=strict, dask=dask)
    run_stage(whole, "index")
    tables = fold_tables(read_manifest(whole.manifest), folds, whole.config.cohort.split.seed)
    runs = []
    for number, table in enumerate(tables):
        place = whole.folder / f"fold-{number}"
        claim(place, "run")
        write_manifest(table, place / "cohort.tsv")
        cohort = CohortConfig(manifest=(place / "cohort.tsv").resolve())
        config = whole.config.model_copy(update={"cohort": cohort})
        runs.append(Run.create(config, place, whole.pool))
        for stage in ("index", "prepare"):
            run_stage(runs[-1], stage, how=how)
    return runs


def _fold_on(whole: Run, prepared: Run) -> Run:
    """The fold of ``whole`` that uses the slices of another run's."""
    config = whole.config.model_copy(update={"cohort": prepared.config.cohort})
    run = Run.create(config, whole.folder / prepared.folder.name, whole.pool)
    run.share_slices(prepared)
    return run


def fold_tables(table: pd.DataFrame, folds: int, seed: int) -> list[pd.DataFrame]:
    """The manifest once per fold: its share of the masked mixed subjects tests, the rest train."""
    mixed = table["role"] == "mixed"
    people = table["source"] + "\t" + table["subject"]
    testable = sorted(set(people[mixed & (table["tumour_mask"] != "")]))
    if not 2 <= folds <= len(testable):
        raise ConfigError(
            f"folds: expected 2 to {len(testable)} (mixed subjects with a tumour mask), "
            f"found {folds}"
        )
    order = np.random.default_rng(seed).permutation(len(testable))
    fold_of = {testable[person]: place % folds for place, person in enumerate(order)}
    stand_in = (table["role"] == "healthy") & people.isin([_stand_in(p) for p in testable])
    fold_of |= {_stand_in(person): fold for person, fold in fold_of.items()}
    # Thresholds come from stand-ins of patients whom neither model has seen.
    watched = set(table.loc[stand_in & (table["split"] == "val"), "image"])
    usual = np.where(table["image"].isin(watched), "val", "train")
    tables = []
    for fold in range(folds):
        split = np.where(people.map(fold_of) == fold, "test", usual)
        tables.append(table.assign(split=table["split"].where(~(mixed | stand_in), split)))
    return tables


def _stand_in(person: str) -> str:
    """The same patient as the source of tumour-free slices; see ``add_tumour_free``."""
    source, subject = person.split("\t")
    return f"{source}{TUMOUR_FREE}\t{subject}"


def pooled_scores(runs: list[Run]) -> pd.DataFrame:
    """Scores of every fold's mixed test slices, and of the healthy ones once, on one scale.

    Each fold has a mixed model of its own, hence a scale of its own. From every score its fold's
    threshold (the first percentile of healthy validation slices) is subtracted, and the difference
    divided by those slices' standard deviation: no label is used, and 0 is the threshold. Brain
    area stays as it is.
    """
    parts: list[pd.DataFrame] = []
    seen: set[tuple[str, str]] = set()
    for run in runs:
        scores, calibration = read_scores(run.scores), read_json(run.calibration)
        reference = scores[(scores["role"] == "healthy") & (scores["split"] == "val")]
        for name in score_columns(scores):
            if name == _BRAIN_AREA:
                continue
            threshold = calibration["scores"][name]["slice"]["thresholds"][0]["threshold"]
            spread = float(reference[name].std()) or 1.0
            scores[name] = (scores[name] - threshold) / spread
        healthy = scores["role"] == "healthy"
        people = pd.MultiIndex.from_frame(scores[list(SUBJECT_KEY)])
        # A mixed subject is judged in its own fold only, a healthy one in the first that has it.
        wanted = np.where(healthy, ~people.isin(list(seen)), scores["split"] == "test")
        parts.append(scores[wanted])
        seen |= set(people[healthy])
    return pd.concat(parts, ignore_index=True)


def _material(run: Run, folds: int) -> ReportMaterial:
    """The report of pooled scores; the folds' own folders hold models and slices."""
    return ReportMaterial(
        **judged_tables(run),
        made={
            "Cross-validation": f"{folds} folds over mixed subjects with a tumour mask; every "
            "test subject was unseen by its fold's mixed model. Scores are shown less their "
            "fold's threshold, in standard deviations of healthy validation slices."
        },
    )
