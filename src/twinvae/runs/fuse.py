"""Scores of several contrasts, of runs or of anyone's tables, fused into one table of scores."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae.cohort import standard_contrast
from twinvae.config import DecisionConfig
from twinvae.decision import calibrate
from twinvae.decision.fusion import (
    CONTRASTS,
    FUSED,
    Scale,
    contrast_sets,
    fuse,
    healthy_with,
    scores_of,
    set_name,
    single_name,
    with_fused,
)
from twinvae.errors import CalibrationError, ConfigError, DataError, StageError
from twinvae.files import checksum, write_json
from twinvae.imaging import SliceStore
from twinvae.outputs import claim, locked
from twinvae.runs.folder import Run
from twinvae.scoring import read_scores, scored_rows, write_scores
from twinvae.scoring.table import KEY_COLUMNS, SPACING, is_trivial, score_columns

FUSION = "fusion.json"
FORMAT = 1


@dataclass(frozen=True)
class FuseResult:
    """What was fused."""

    scans: dict[str, int]
    """Contrasts, as ``T2w+FLAIR`` → scans that have just these."""
    notes: tuple[str, ...]
    """What the reader should know: columns left out, thresholds that cannot be set."""


def named_paths(words: Sequence[str], what: str) -> dict[str, str]:
    """``T2w=runs/t2w`` … as contrast → what stands behind it; contrasts by their common names.

    Raises ``ConfigError`` naming a word that is none, or a contrast named twice.
    """
    found: dict[str, str] = {}
    for word in words:
        match = re.fullmatch(r"([A-Za-z0-9_-]+)=(.+)", word)
        contrast = "" if match is None else standard_contrast(match[1])
        if match is None or not contrast.isalnum() or contrast in found:
            raise ConfigError(f"{what}: expected CONTRAST=… once a contrast, found {word!r}")
        found[contrast] = match[2]
    return found


def fuse_runs(
    given: Mapping[str, Path], out: Path, *, scores: Sequence[str] = (), complete: bool = False
) -> FuseResult:
    """Fuse what was scored in each contrast; writes ``scores.tsv`` and ``fusion.json`` in ``out``.

    ``given``: contrast → a finished run's folder, whose deciding score is taken, or a table of
    scores, whose score ``scores`` names (one for all, or ``CONTRAST=NAME`` each). Trivial rivals
    that all have are fused alike. ``complete``: only scans that have every contrast are written.
    For runs ``fusion.json`` also holds the thresholds of every set of contrasts, which a composite
    bundle needs.

    Raises ``ConfigError`` for fewer than two contrasts and a score that is not there, ``DataError``
    and ``CalibrationError`` as ``decision.fusion.fuse`` does, and ``OutputError`` when ``out``
    holds anything but an earlier fusion.
    """
    if len(given) < 2:
        raise ConfigError(f"fuse: expected two contrasts or more, found {', '.join(given)}")
    runs = {c: Run.open(path) for c, path in given.items() if not path.is_file()}
    tables = {
        c: run_table(runs[c], c) if c in runs else read_scores(path) for c, path in given.items()
    }
    columns = _columns(tables, runs, scores)
    joined, scales = fuse(tables, columns)
    found: dict[str, Any] = {
        "format": FORMAT,
        "given": {c: os.path.relpath(path, out) for c, path in given.items()},
        "sha256": {c: checksum(runs[c].scores if c in runs else given[c]) for c in given},
        "scores": dict(columns[FUSED]),
        "scales": {name: scale.to_json() for name, scale in scales.items()},
    }
    notes = []
    if len(runs) == len(given):
        try:
            found["calibrations"] = _calibrations(joined, scales[FUSED], _decision(runs))
        except CalibrationError as error:
            notes.append(f"no thresholds, so no composite bundle can be packed: {error}")
    whole = set_name(list(tables))
    written = joined[joined[CONTRASTS] == whole] if complete else joined
    table, lacking = scores_of(written, scales)
    if lacking:
        notes.append(
            f"{' and '.join(single_name(FUSED, c) for c in lacking)} left out, since not every "
            f"scan has that contrast; --complete keeps only the scans that have all"
        )
    claim(out, "fusion", given.values())
    with locked(out):
        write_scores(out / "scores.tsv", table)
        write_json(out / FUSION, found)
    keys = [name for name in ("source", "subject", "session", "role") if name in table.columns]
    scans = written.drop_duplicates(keys)[CONTRASTS].value_counts()
    return FuseResult({str(name): int(count) for name, count in scans.items()}, tuple(notes))


def run_table(run: Run, contrast: str) -> pd.DataFrame:
    """The run's scores with the sessions of its scans, which ``scores.tsv`` does not tell."""
    if standard_contrast(run.config.contrast) != contrast:
        raise ConfigError(
            f"{run.folder}: expected a run of contrast {contrast}, found {run.config.contrast}"
        )
    if not run.scores.is_file():
        raise StageError(f"{run.scores}: no such file; finish the run first (twinvae run)")
    run.check_written("score")
    scores, store = read_scores(run.scores), SliceStore.open(run.slices)
    index = store.index.iloc[scored_rows(store)].reset_index(drop=True)
    same = ["subject", "source", "slice"]
    if not index[same].equals(scores[same]):
        raise DataError(f"{run.scores}: expected the slices of {run.slices}; score the run anew")
    return scores.assign(session=index["session"])


def _columns(
    tables: Mapping[str, pd.DataFrame], runs: Mapping[str, Run], scores: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Fused score → contrast → column."""
    plain = [word for word in scores if "=" not in word]
    own = named_paths([word for word in scores if "=" in word], "score")
    if len(plain) > 1 or set(own) - set(tables):
        raise ConfigError(
            f"score: expected one name for all, or CONTRAST=NAME for {', '.join(tables)}, "
            f"found {' '.join(scores)}"
        )
    deciding: dict[str, str] = {}
    for contrast, table in tables.items():
        decided = runs[contrast].config.decision.score if contrast in runs else ""
        name = own.get(contrast) or (plain[0] if plain else decided)
        if name not in score_columns(table):
            raise ConfigError(
                f"{contrast}: expected --score {contrast}=NAME with one of the scores "
                f"{', '.join(score_columns(table))}, found {name or 'none'}"
            )
        deciding[contrast] = name
    common = [
        name
        for name in score_columns(next(iter(tables.values())))
        if is_trivial(name) and all(name in table.columns for table in tables.values())
    ]
    return {FUSED: deciding} | {name: dict.fromkeys(tables, name) for name in common}


def _decision(runs: Mapping[str, Run]) -> DecisionConfig:
    """How verdicts are come to, which must be the same in all runs."""
    found = [run.config.decision.model_copy(update={"score": FUSED}) for run in runs.values()]
    if any(each != found[0] for each in found):
        raise ConfigError(
            f"decision: expected the same in the runs of {', '.join(runs)}, but for the score"
        )
    return found[0]


def _calibrations(joined: pd.DataFrame, scale: Scale, decision: DecisionConfig) -> dict[str, Any]:
    """Set of contrasts → the calibration of its fused score."""
    kept = [*KEY_COLUMNS, *(c for c in (SPACING, "session") if c in joined.columns)]
    found = {}
    for several in contrast_sets(list(scale.single)):
        healthy = joined[healthy_with(joined, several)].assign(**{CONTRASTS: set_name(several)})
        table = with_fused(healthy, {FUSED: scale})
        found[set_name(several)] = calibrate(table[[*kept, FUSED]], decision)
    return found
