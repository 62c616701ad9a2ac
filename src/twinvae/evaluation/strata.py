"""Parts of the mixed slices that are judged apart: by source, tumour size, position and grade."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from twinvae.evaluation.resampling import BoolArray
from twinvae.evaluation.sample import known_mixed

THIRDS = ("first", "middle", "last")
"""Of the relative position along the brain, from 0 to 1."""


def mixed_subsets(scores: pd.DataFrame, split: str) -> dict[str, pd.DataFrame]:
    """Rows of each subset: ``mixed``, and ``mixed:SOURCE`` for each of several mixed sources."""
    rows = known_mixed(scores, split)
    sources = sorted(rows["source"].unique())
    each = {f"mixed:{source}": rows.loc[rows["source"] == source] for source in sources}
    return {"mixed": rows, **(each if len(sources) > 1 else {})}


def strata(rows: pd.DataFrame, min_tumour_px: int, sizes: Sequence[int]) -> dict[str, pd.DataFrame]:
    """Rows of each stratum of some mixed slices.

    ``size:LOW-HIGH``: tumour slices of more than LOW and at most HIGH pixels with all tumour-free
    slices; bins end at those of ``sizes`` (rising) above ``min_tumour_px``. ``position:THIRD``: the
    slices of one third of the brain. ``grade:GRADE``: the slices of the subjects of that grade,
    where the table has the column ``grade``.
    """
    pixels = rows["tumour_px"].to_numpy(dtype=np.float64)
    edges = [float(min_tumour_px), *(s for s in sizes if s > min_tumour_px), np.inf]
    chosen: dict[str, BoolArray] = {
        f"size:{low:g}-{high:g}" if np.isfinite(high) else f"size:{low:g}-": (
            (pixels <= min_tumour_px) | ((pixels > low) & (pixels <= high))
        )
        for low, high in pairwise(edges)
    }
    chosen |= {f"position:{name}": mask for name, mask in by_third(rows).items()}
    if "grade" in rows.columns:
        grades = rows["grade"].astype(str).to_numpy()
        chosen |= {f"grade:{grade}": grades == grade for grade in np.unique(grades) if grade}
    return {name: rows.loc[mask] for name, mask in chosen.items()}


def by_third(rows: pd.DataFrame) -> dict[str, BoolArray]:
    """Which rows lie in each of ``THIRDS``; (n,) each."""
    third = np.floor(rows["position"].to_numpy(dtype=np.float64) * 3).clip(0, 2)
    return {name: third == number for number, name in enumerate(THIRDS)}


def by_source(rows: pd.DataFrame) -> dict[str, BoolArray]:
    """Which rows are of each source; (n,) each."""
    sources = rows["source"].to_numpy()
    return {str(name): sources == name for name in sorted(rows["source"].unique())}
