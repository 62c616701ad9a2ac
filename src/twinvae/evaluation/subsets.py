"""What a metric is computed on: slices or subjects with their truth, and parts judged apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.evaluation.resampling import BoolArray, FloatArray, IntArray
from twinvae.scoring.table import area_unit, areas, pixel_range_mm2, score_columns
from twinvae.vocabulary import SUBJECT_KEY

THIRDS = ("first", "middle", "last")
"""Of the relative position along the brain, from 0 to 1."""


@dataclass(frozen=True)
class Sample:
    """Rows (slices or subjects), in any order; a subject is a (source, subject) pair."""

    scores: dict[str, FloatArray]
    """For each score, (n,) values; larger = more abnormal."""
    tumour_px: FloatArray
    """(n,) tumour pixels; NaN where unknown."""
    subject: IntArray
    """(n,) codes from 0."""
    n_subjects: int
    log_area: FloatArray
    """(n,) natural logarithm of the brain's area, in mm² where grids are known (``areas``); −inf
    without brain."""
    position: FloatArray
    """(n,) relative position along the brain."""
    pixel_mm2: tuple[float, float] | None = None
    """Smallest and largest area of a pixel that was counted; None where areas are pixels."""

    def positive(self, min_tumour_px: int) -> BoolArray:
        """Which rows hold more than ``min_tumour_px`` tumour pixels; (n,)."""
        return np.asarray(self.tumour_px > min_tumour_px)


def sample_of(rows: pd.DataFrame) -> Sample:
    """The slices ``rows`` of a checked scores table."""
    area = areas(rows, "brain")
    log_area = np.full(len(rows), -np.inf)
    np.log(area, out=log_area, where=area > 0)
    subject, n_subjects = subject_codes(rows)
    return Sample(
        scores={name: rows[name].to_numpy(dtype=np.float64) for name in score_columns(rows)},
        tumour_px=rows["tumour_px"].to_numpy(dtype=np.float64),
        subject=subject,
        n_subjects=n_subjects,
        log_area=log_area,
        position=rows["position"].to_numpy(dtype=np.float64),
        pixel_mm2=pixel_range_mm2(rows),
    )


def subject_codes(rows: pd.DataFrame) -> tuple[IntArray, int]:
    """Codes (n,) of the rows' subjects, and how many there are; sources do not share subjects."""
    groups = rows.groupby(list(SUBJECT_KEY), sort=True)
    return np.asarray(groups.ngroup(), dtype=np.int64), int(groups.ngroups)


def known_mixed(scores: pd.DataFrame, split: str) -> pd.DataFrame:
    """Slices of mixed sources in ``split`` whose tumour pixels are known."""
    chosen = (scores["role"] == "mixed") & (scores["split"] == split)
    return scores.loc[chosen & scores["tumour_px"].notna()]


def healthy_and_tumour_free(
    scores: pd.DataFrame, split: str, min_tumour_px: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Healthy-source slices of ``split``, and its tumour-free slices of the mixed sources."""
    healthy = scores.loc[(scores["role"] == "healthy") & (scores["split"] == split)]
    mixed = known_mixed(scores, split)
    return healthy, mixed.loc[mixed["tumour_px"] <= min_tumour_px]


def clean_and_slivers(free: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of slices that are no tumour slices: those without any tumour pixel, and those with a few.

    Only the first can be called abnormal wrongly; a sliver of tumour is no false alarm.
    """
    clean = free["tumour_px"] == 0
    return free.loc[clean], free.loc[~clean]


def by_subject(sample: Sample) -> Sample:
    """One row a subject: its highest score, and the most tumour pixels in one slice.

    Covariates are left NaN: a subject has no position.
    """

    def highest(values: FloatArray) -> FloatArray:
        out = np.full(sample.n_subjects, -np.inf)
        np.maximum.at(out, sample.subject, values)
        return out

    unknown = np.full(sample.n_subjects, np.nan)
    return Sample(
        scores={name: highest(values) for name, values in sample.scores.items()},
        tumour_px=highest(sample.tumour_px),
        subject=np.arange(sample.n_subjects, dtype=np.int64),
        n_subjects=sample.n_subjects,
        log_area=unknown,
        position=unknown,
        pixel_mm2=sample.pixel_mm2,
    )


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
