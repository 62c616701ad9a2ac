"""Parts of the mixed slices that are judged apart: by source, tumour size, position and grade."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.evaluation.resampling import BoolArray
from twinvae.evaluation.sample import known_mixed
from twinvae.scoring.table import area_unit, areas, pixel_range_mm2

THIRDS = ("first", "middle", "last")
"""Of the relative position along the brain, from 0 to 1."""


def mixed_subsets(scores: pd.DataFrame, split: str) -> dict[str, pd.DataFrame]:
    """Rows of each subset: ``mixed``, and ``mixed:SOURCE`` for each of several mixed sources."""
    rows = known_mixed(scores, split)
    sources = sorted(rows["source"].unique())
    each = {f"mixed:{source}": rows.loc[rows["source"] == source] for source in sources}
    return {"mixed": rows, **(each if len(sources) > 1 else {})}


def strata(
    rows: pd.DataFrame, min_tumour_px: int, config: EvaluationConfig
) -> dict[str, pd.DataFrame]:
    """Rows of each stratum of some mixed slices.

    ``size_mm2:LOW-HIGH``: tumour slices of more than LOW and at most HIGH mm² with all tumour-free
    slices; ``size_px`` where the table does not say how large a pixel is (``areas``).
    ``position:THIRD``: the slices of one third of the brain. ``grade:GRADE``: the slices of the
    subjects of that grade, where the table has the column ``grade``.
    """
    chosen = by_size(rows, min_tumour_px, config)
    chosen |= {f"position:{name}": mask for name, mask in by_third(rows).items()}
    if "grade" in rows.columns:
        grades = rows["grade"].astype(str).to_numpy()
        chosen |= {f"grade:{grade}": grades == grade for grade in np.unique(grades) if grade}
    return {name: rows.loc[mask] for name, mask in chosen.items()}


def by_size(
    rows: pd.DataFrame, min_tumour_px: int, config: EvaluationConfig
) -> dict[str, BoolArray]:
    """Which rows belong to each stratum of tumour size; (n,) each.

    A tumour slice is one of more than ``min_tumour_px`` pixels on its own grid, so the lowest
    stratum begins at the area of so many pixels of the finest grid.
    """
    unit, pixel = area_unit(rows), pixel_range_mm2(rows)
    sizes = config.size_strata_mm2 if unit == "mm2" else config.size_strata_px
    least = min_tumour_px * (pixel[0] if pixel else 1.0)
    edges = [least, *(float(s) for s in sizes if s > least), np.inf]
    free = rows["tumour_px"].to_numpy(dtype=np.float64) <= min_tumour_px
    area = areas(rows, "tumour")
    return {
        f"size_{unit}:{low:g}-" + (f"{high:g}" if np.isfinite(high) else ""): (
            free | ((area > low) & (area <= high))
        )
        for low, high in pairwise(edges)
    }


def by_third(rows: pd.DataFrame) -> dict[str, BoolArray]:
    """Which rows lie in each of ``THIRDS``; (n,) each."""
    third = np.floor(rows["position"].to_numpy(dtype=np.float64) * 3).clip(0, 2)
    return {name: third == number for number, name in enumerate(THIRDS)}


def by_source(rows: pd.DataFrame) -> dict[str, BoolArray]:
    """Which rows are of each source; (n,) each."""
    sources = rows["source"].to_numpy()
    return {str(name): sources == name for name in sorted(rows["source"].unique())}
