"""Which slices are shown: for figures 2 and 3 by a fixed rule that looks at no score, so nothing is
picked; and the worst mistakes, picked by score and label, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.decision import called, slice_thresholds
from twinvae.evaluation.subsets import known_mixed
from twinvae.scoring.table import area_unit, areas


def choose_slices(
    scores: pd.DataFrame, role: str, min_tumour_px: int, *, count: int = 8, split: str = "test"
) -> npt.NDArray[np.int64]:
    """Row numbers of at most ``count`` slices of ``role``, one a subject.

    Of a mixed subject the slice with the largest tumour, if it has a tumour slice; of a healthy
    subject the slice with the largest brain. When there are more subjects than ``count``, they
    are taken evenly through the list sorted by source and subject.
    """
    rows = scores.reset_index(drop=True)
    rows = rows[(rows["role"] == role) & (rows["split"] == split)]
    if role == "mixed":
        rows = rows[rows["tumour_px"] > min_tumour_px]
    rows = rows.assign(by=areas(rows, "tumour" if role == "mixed" else "brain"))
    best = rows.groupby(["source", "subject"], sort=True)["by"].idxmax().to_numpy(dtype=np.int64)
    if len(best) > count:
        best = best[np.linspace(0, len(best) - 1, count).round().astype(np.int64)]
    return best


def worst_slices(
    scores: pd.DataFrame, calibration: Mapping[str, Any], min_tumour_px: int, *, count: int = 8
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers of the worst false positives and false negatives of the verdicts' score.

    False positives: the tumour-free test slices of mixed sources that exceed their threshold most.
    False negatives: the tumour slices below theirs, the largest tumours first. At most one of each
    a subject and ``count`` in all; none without thresholds.
    """
    name = calibration["decision_score"]
    rows = known_mixed(scores.reset_index(drop=True), "test")
    if name not in calibration["scores"] or not len(rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    excess = rows[name].to_numpy() - slice_thresholds(calibration, rows, name)[0][1]
    abnormal = called(calibration, rows, name)[0][1]
    tumour = (rows["tumour_px"] > min_tumour_px).to_numpy()
    return (
        _first_of_each(rows.assign(by=excess)[abnormal & ~tumour], count),
        _first_of_each(rows.assign(by=areas(rows, "tumour"))[~abnormal & tumour], count),
    )


def _first_of_each(rows: pd.DataFrame, count: int) -> npt.NDArray[np.int64]:
    """Row numbers, largest ``by`` first, one a subject."""
    ordered = rows.sort_values("by", ascending=False, kind="stable")
    firsts = ordered.drop_duplicates(["source", "subject"])
    return firsts.index.to_numpy(dtype=np.int64)[:count]


def captions(scores: pd.DataFrame, rows: npt.NDArray[np.int64], score: str) -> list[str]:
    """Subject, slice number and score of each of ``rows``, a line each."""
    return [
        f"{row['subject']}\nslice {row['slice']}\nscore {row[score]:.3g}"
        for _, row in scores.iloc[rows].iterrows()
    ]


def worst_captions(
    scores: pd.DataFrame, rows: npt.NDArray[np.int64], calibration: Mapping[str, Any]
) -> list[str]:
    """Subject, slice number, tumour in pixels and mm², score against its threshold."""
    name = calibration["decision_score"]
    chosen = scores.iloc[rows]
    bounds = slice_thresholds(calibration, chosen, name)[0][1] if len(rows) else ()
    known = area_unit(chosen) == "mm2"
    mm2 = [f", {area:.0f} mm²" if known else "" for area in areas(chosen, "tumour")]
    return [
        f"{row['subject']}\nslice {row['slice']}\n{row['tumour_px']:.0f} px{area}\n"
        f"{row[name]:.3g} (d* {bound:.3g})"
        for (_, row), area, bound in zip(chosen.iterrows(), mm2, bounds, strict=True)
    ]
