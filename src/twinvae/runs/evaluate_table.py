"""Anyone's scores: a table with the columns of ``scores.tsv`` is judged as a run's own would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae.config import DecisionConfig, EvaluationConfig, dump_config, validated
from twinvae.decision import Calibration, calibrate
from twinvae.errors import CalibrationError, ConfigError, DataError
from twinvae.evaluation import audit, evaluate, write_metrics
from twinvae.evaluation.subsets import known_mixed
from twinvae.files import write_json
from twinvae.outputs import claim, locked
from twinvae.reporting.report import ReportMaterial, write_report
from twinvae.scoring import read_scores
from twinvae.scoring.table import is_trivial, scan_key, score_columns


@dataclass(frozen=True)
class TableResult:
    """What is said of the score that was asked for."""

    score: str
    """Its name."""
    sees: str
    """What it mostly sees, in plain words."""
    warnings: tuple[str, ...]
    """What stands on too little, or was left out, and why."""


def evaluate_table(
    path: Path,
    out: Path,
    *,
    score: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> TableResult:
    """Judge the table ``path``: ``metrics.tsv``, ``audit.json``, ``report.html`` in ``out``.

    ``score``: the one to report on, by default the first that is not trivial. ``overrides``:
    dotted settings of ``evaluation`` and ``decision``, and ``seed`` of the resamples. Thresholds
    are set on the table's healthy validation slices and written to ``calibration.json``; without
    such slices, or with too few, metrics of verdicts are left out.

    Raises ``DataError`` when the table is not one of scores (``read_scores``), names a slice twice,
    or holds no tumour slice or no tumour-free one of a mixed test subject; ``ConfigError`` for
    settings that do not exist and a score that is not there; ``OutputError`` when ``out`` holds
    anything but an earlier table's results.
    """
    path, out = Path(path), Path(out)
    evaluation, decision, seed = _settings(overrides or {})
    scores = read_scores(path)
    _require_both_classes(scores, evaluation.headline_min_tumour_px, path)
    name = _reported(score_columns(scores), score, path)
    decision = decision.model_copy(update={"score": name})
    calibration, missing = _thresholds(scores, decision)
    parsed = Calibration(calibration)
    metrics = evaluate(scores, parsed, evaluation, seed=seed)
    found = audit(scores, parsed, evaluation, seed=seed)
    config = {
        "name": path.stem,
        "about": f"Scores of {path.name}, judged as they are.",
        "evaluation": dump_config(evaluation),
        "decision": dump_config(decision),
    }
    made = {"Scores": path.name, "Thresholds": missing or "set on its healthy validation slices"}
    claim(out, "evaluation", [path])
    with locked(out):
        write_metrics(out / "metrics.tsv", metrics)
        write_json(out / "audit.json", found)
        if missing is None:
            write_json(out / "calibration.json", calibration)
        else:
            (out / "calibration.json").unlink(missing_ok=True)  # of an earlier table
        write_report(ReportMaterial(config, scores, parsed, metrics, found, made=made), out)
    warnings = (*([missing] if missing else []), *found["warnings"])
    return TableResult(name, found["scores"][name]["sees"], warnings)


def _settings(overrides: Mapping[str, Any]) -> tuple[EvaluationConfig, DecisionConfig, int]:
    values: dict[str, dict[str, Any]] = {"evaluation": {}, "decision": {}}
    seed = 0
    for dotted, value in overrides.items():
        section, _, name = dotted.partition(".")
        if dotted == "seed":
            seed = int(value)
        elif section in values and name:
            values[section][name] = value
        else:
            raise ConfigError(
                f"{dotted}: expected evaluation.…, decision.… or seed for a table of scores"
            )
    return (
        validated(EvaluationConfig, values["evaluation"], "evaluation"),
        validated(DecisionConfig, values["decision"], "decision"),
        seed,
    )


def _require_both_classes(scores: pd.DataFrame, min_tumour_px: int, path: Path) -> None:
    """Refuse slices named twice, and a test set that nothing can be judged on."""
    keys = [*scan_key(scores), "slice"]
    twice = scores.duplicated(keys)
    if twice.any():
        row = int(twice.to_numpy().argmax())
        named = ", ".join(f"{key} {scores[key].iloc[row]}" for key in keys)
        raise DataError(f"{path}: line {row + 2}: expected each slice once, found {named} again")
    rows = known_mixed(scores, "test")
    tumours = int((rows["tumour_px"] > min_tumour_px).sum())
    if not 0 < tumours < len(rows):
        raise DataError(
            f"{path}: expected tumour slices (tumour_px above {min_tumour_px}) and tumour-free "
            f"ones among the rows of role mixed and split test whose tumour_px is known, found "
            f"{tumours} and {len(rows) - tumours}"
        )


def _reported(names: tuple[str, ...], wanted: str | None, path: Path) -> str:
    if wanted is None:
        return next((name for name in names if not is_trivial(name)), names[0])
    if wanted not in names:
        raise ConfigError(f"{path}: expected one of the scores {', '.join(names)}, found {wanted}")
    return wanted


def _thresholds(
    scores: pd.DataFrame, decision: DecisionConfig
) -> tuple[dict[str, Any], str | None]:
    """The calibration, or an empty one and why."""
    try:
        return calibrate(scores, decision), None
    except CalibrationError as error:
        reason = f"no thresholds, so nothing is said about verdicts: {error}"
        return {"decision_score": decision.score, "scores": {}}, reason
