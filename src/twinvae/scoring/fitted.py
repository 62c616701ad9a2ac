"""Scores that learn from healthy slices: fitting and scoring.

A ``Reference`` learns what healthy slices look like from the training ones, which are never scored.
A ``Fit`` learns how the models' answers vary, and must do so on slices that the models were not
trained on: the healthy validation slices. Thresholds rest on these too. So that none is scored by a
fit it took part in, every healthy validation subject gets the scores of a fit on all the others;
of more than a hundred subjects, several are left out together, so that fits do not cost the square
of their number. With one subject there are no others, and its scores are those of its own fit:
thresholds are then too low. All other slices, and new scans, are scored by the fit on all healthy
validation subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinvae.config import ScoringConfig
from twinvae.errors import CalibrationError
from twinvae.scoring.batch import Fitted, Models
from twinvae.scoring.loop import Slices, batches, score_slices
from twinvae.scoring.registry import Fit, Reference, Score
from twinvae.training import Compute
from twinvae.vocabulary import SUBJECT_KEY

Rows = NDArray[np.int64]
_GROUPS = 100  # of subjects left out, at most


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
    slice, or ``slices`` no healthy training slice.
    """
    fitted = _refer(slices, models, scores, options, compute)
    able = [score for score in scores if isinstance(score.fit, Fit)]
    if not able:
        table = score_slices(
            slices, rows, models, scores, options, compute, fitted=fitted, label=label
        )
        return table, fitted
    places = _healthy(slices, rows, "val")
    if not len(places):
        raise CalibrationError(
            f"{able[0].name}: expected healthy validation slices to fit on, found none"
        )
    seen = _observe(slices, rows[places], models, able, options, compute)
    fitted |= _learn(seen, np.ones(len(places), bool), able, compute)
    table = score_slices(slices, rows, models, scores, options, compute, fitted=fitted, label=label)
    group = _subjects(slices, rows[places]) % _GROUPS
    names = [score.name for score in able]
    for code in np.unique(group) if group.any() else ():
        mine = group == code
        others = _learn(seen, ~mine, able, compute)
        part = score_slices(
            slices, rows[places[mine]], models, able, options, compute, fitted=others
        )
        table.loc[places[mine], names] = part[names].to_numpy()
    return table, fitted


def _healthy(slices: Slices, rows: Rows, split: str) -> Rows:
    """Places in ``rows`` of the healthy slices of ``split``."""
    index = slices.index.iloc[rows]
    chosen = (index["role"] == "healthy") & (index["split"] == split)
    return np.flatnonzero(chosen.to_numpy()).astype(np.int64)


def _subjects(slices: Slices, rows: Rows) -> Rows:
    """Code of each row's subject."""
    people = slices.index.iloc[rows].groupby(list(SUBJECT_KEY), sort=True)
    return np.asarray(people.ngroup(), dtype=np.int64)


def _fits(scores: Sequence[Score]) -> dict[str, Fit]:
    return {score.fit.name: score.fit for score in scores if isinstance(score.fit, Fit)}


def _refer(
    slices: Slices,
    models: Models,
    scores: Sequence[Score],
    options: ScoringConfig,
    compute: Compute,
) -> dict[str, dict[str, Tensor]]:
    """Every reference among ``scores``, learned from all healthy training slices."""
    able = [(score.name, score.fit) for score in scores if isinstance(score.fit, Reference)]
    rows = _healthy(slices, np.arange(len(slices.index)), "train")
    if able and not len(rows):
        raise CalibrationError(
            f"{able[0][0]}: expected healthy training slices to learn from, found none"
        )
    return {
        each.name: _tensors(each.learn(batches(slices, rows, models, options, compute)), compute)
        for each in dict.fromkeys(reference for _, reference in able)
    }


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
        with torch.no_grad(), compute.arithmetic():
            for name, fit in _fits(scores).items():
                parts.setdefault(name, []).append(fit.observe(batch).double().cpu().numpy())
    return {name: np.concatenate(each) for name, each in parts.items()}


def _learn(
    seen: dict[str, NDArray[np.float64]],
    chosen: NDArray[np.bool_],
    scores: Sequence[Score],
    compute: Compute,
) -> dict[str, dict[str, Tensor]]:
    """Every fit on the ``chosen`` ones of the slices looked at."""
    return {
        name: _tensors(fit.learn(seen[name][chosen]), compute)
        for name, fit in _fits(scores).items()
    }


def _tensors(arrays: Mapping[str, NDArray[np.float64]], compute: Compute) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.asarray(array, np.float32)).to(compute.device)
        for name, array in arrays.items()
    }
