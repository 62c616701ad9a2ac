"""Scores that learn from healthy validation slices: fitting, scoring, storing what they learned.

Thresholds rest on the same slices. So that these are not scored by a fit they took part in, every
healthy validation subject gets the scores of a fit on all the others; with one subject there are
no others, and its scores are those of its own fit: thresholds are then too low. All other slices,
and new scans, are scored by the fit on all healthy validation subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from twinvae.config import ScoringConfig
from twinvae.errors import CalibrationError, DataError
from twinvae.files import atomic_path
from twinvae.scoring.batch import Fitted, Models
from twinvae.scoring.registry import Fit, Score
from twinvae.scoring.score import Slices, batches, score_slices
from twinvae.training import Compute

Rows = NDArray[np.int64]


def score_and_fit(
    slices: Slices,
    rows: Rows,
    models: Models,
    scores: Sequence[Score],
    options: ScoringConfig,
    compute: Compute,
    *,
    label: str | None = None,
) -> tuple[pd.DataFrame, Fitted]:
    """As ``score_slices``, fitting first the scores that need it; also what they learned.

    Raises ``CalibrationError`` when a score needs fitting and ``rows`` holds no healthy validation
    slice.
    """
    able = [score for score in scores if score.fit is not None]
    if not able:
        return score_slices(slices, rows, models, scores, options, compute, label=label), {}
    places = _healthy_validation(slices, rows)
    if not len(places):
        raise CalibrationError(
            f"{able[0].name}: expected healthy validation slices to fit on, found none"
        )
    seen = _observe(slices, rows[places], models, able, options, compute)
    fitted = _learn(seen, np.ones(len(places), bool), able, compute)
    table = score_slices(slices, rows, models, scores, options, compute, fitted=fitted, label=label)
    subject = _subjects(slices, rows[places])
    names = [score.name for score in able]
    for code in np.unique(subject) if len(np.unique(subject)) > 1 else ():
        mine = subject == code
        others = _learn(seen, ~mine, able, compute)
        part = score_slices(
            slices, rows[places[mine]], models, able, options, compute, fitted=others
        )
        table.loc[places[mine], names] = part[names].to_numpy()
    return table, fitted


def write_fitted(path: Path, fitted: Fitted) -> None:
    """Write what was learned, one tensor ``FIT/ARRAY`` each; nothing learned leaves no file."""
    if not fitted:
        path.unlink(missing_ok=True)
        return
    tensors = {
        f"{fit}/{name}": array.contiguous().cpu()
        for fit, arrays in fitted.items()
        for name, array in arrays.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def read_fitted(path: Path) -> Fitted:
    """Read what ``write_fitted`` wrote, on the CPU; nothing when there is no such file."""
    if not path.is_file():
        return {}
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: expected safetensors, found {error}") from None
    fitted: dict[str, dict[str, Tensor]] = {}
    for key, array in tensors.items():
        fit, _, name = key.partition("/")
        fitted.setdefault(fit, {})[name] = array
    return fitted


def moved(fitted: Fitted, device: torch.device) -> Fitted:
    """The same on ``device``."""
    return {
        fit: {name: array.to(device) for name, array in arrays.items()}
        for fit, arrays in fitted.items()
    }


def require_fitted(scores: Sequence[Score], fitted: Fitted, where: str) -> None:
    """Raise ``DataError`` naming the first of ``scores`` whose fit is not in ``fitted``."""
    for score in scores:
        if score.fit is not None and score.fit.name not in fitted:
            raise DataError(
                f"{where}: expected what score {score.name} learned from healthy slices "
                f"({score.fit.name}), found {', '.join(fitted) or 'nothing'}"
            )


def _healthy_validation(slices: Slices, rows: Rows) -> Rows:
    """Places in ``rows`` of the healthy validation slices."""
    index = slices.index.iloc[rows]
    chosen = (index["role"] == "healthy") & (index["split"] == "val")
    return np.flatnonzero(chosen.to_numpy()).astype(np.int64)


def _subjects(slices: Slices, rows: Rows) -> Rows:
    """Code of each row's subject."""
    people = slices.index.iloc[rows].groupby(["source", "subject"], sort=True)
    return np.asarray(people.ngroup(), dtype=np.int64)


def _fits(scores: Sequence[Score]) -> dict[str, Fit]:
    return {score.fit.name: score.fit for score in scores if score.fit is not None}


def _observe(
    slices: Slices,
    rows: Rows,
    models: Models,
    scores: Sequence[Score],
    options: ScoringConfig,
    compute: Compute,
) -> dict[str, NDArray[np.float64]]:
    """What each fit looks at, (slices, d)."""
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for batch in batches(slices, rows, models, options, compute):
        with torch.no_grad(), compute.autocast():
            for name, fit in _fits(scores).items():
                parts.setdefault(name, []).append(fit.observe(batch).double().cpu().numpy())
    return {name: np.concatenate(each) for name, each in parts.items()}


def _learn(
    seen: dict[str, NDArray[np.float64]],
    chosen: NDArray[np.bool_],
    scores: Sequence[Score],
    compute: Compute,
) -> Fitted:
    """Every fit on the ``chosen`` ones of the slices looked at."""
    return {
        name: {
            key: torch.from_numpy(np.asarray(array, np.float32)).to(compute.device)
            for key, array in fit.learn(seen[name][chosen]).items()
        }
        for name, fit in _fits(scores).items()
    }
