"""Which slices figures 2 and 3 show: a fixed rule that looks at no score, so nothing is picked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd


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
    by = "tumour_px" if role == "mixed" else "brain_px"
    best = rows.groupby(["source", "subject"], sort=True)[by].idxmax().to_numpy(dtype=np.int64)
    if len(best) > count:
        best = best[np.linspace(0, len(best) - 1, count).round().astype(np.int64)]
    return best


def captions(scores: pd.DataFrame, rows: npt.NDArray[np.int64], score: str) -> list[str]:
    """Subject, slice number and score of each of ``rows``, a line each."""
    return [
        f"{row['subject']}\nslice {row['slice']}\nscore {row[score]:.3g}"
        for _, row in scores.iloc[rows].iterrows()
    ]
