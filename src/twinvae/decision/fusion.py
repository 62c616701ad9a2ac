"""Several contrasts of one patient, one score: how unusual a slice is among healthy ones, in all.

Each contrast's score is put on the scale of its evidence, −log of the share of healthy validation
slices that reach it, and the evidence of the contrasts that are there is averaged (Fisher's sum).
A mean of several is then put on that scale once more, so that patients with three contrasts and
with one can stand in one table. Only healthy slices are looked at: no tumour label, no patient.

Why this scale: it does not saturate (beyond the healthy slices it goes on as a straight line), so
that tumours stay in order; and a contrast whose healthy scores are noisy has a long tail, hence a
flat line, so that its false alarms weigh no more than another's. Robust z-scores, scaled by the
middle of the healthy scores, lack the latter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.decision.cutoffs import weights
from twinvae.decision.thresholds import FloatArray, from_the_top
from twinvae.errors import CalibrationError, DataError
from twinvae.scoring.table import KEY_COLUMNS, OPTIONAL_COLUMNS, SPACING
from twinvae.vocabulary import SUBJECT_KEY

FUSED = "fused"
"""The fused score's column; ``fused_T2w`` and so on are those of the contrasts alone."""
CONTRASTS = "contrasts"
"""Column of joined tables: the contrasts of the row's patient, as ``T2w+FLAIR``."""
_SCAN = ["source", "subject", "session", "role"]  # role: stand-ins share their patient's name
_TAIL = 0.1  # share of healthy slices beyond which the exponential tail is fitted
_LEVELS = np.linspace(1.0, _TAIL, 19)  # shares at which the curve below the tail is kept
_SAME_PLACE = 0.03  # of the brain's height: outlines of one head's contrasts differ by less


@dataclass(frozen=True)
class Evidence:
    """A score as −log of the share of healthy slices that reach it; strictly rising, no ceiling.

    Below the highest tenth of healthy slices a curve through their quantiles, above it the line of
    an exponential tail with their mean excess; below the lowest the curve's first piece goes on.
    """

    score: FloatArray
    """Rising, (m,)."""
    evidence: FloatArray
    """(m,): from 0 on."""
    slope: float
    """Beyond the last; 0 where healthy scores do not vary, which then say nothing."""

    @classmethod
    def of(cls, values: FloatArray, subject: npt.NDArray[Any]) -> Self:
        """From healthy slices' ``values`` and their subjects, both (n,); subjects count alike."""
        weight, total = weights(np.unique(subject, return_inverse=True)[1], "subject")
        at, reached = from_the_top(values, weight)
        knots = np.interp(_LEVELS, reached / total, at)
        knots, first = np.unique(knots, return_index=True)  # of equal ones the largest share
        evidence = -np.log(_LEVELS[first])
        beyond = values > knots[-1]
        if not beyond.any():
            return cls(knots, evidence, 0.0)
        excess = float(np.average(values[beyond] - knots[-1], weights=weight[beyond]))
        return cls(knots, evidence, 1.0 / excess)

    def __call__(self, values: FloatArray) -> FloatArray:
        """The evidence of ``values``, of any shape."""
        found = np.interp(values, self.score, self.evidence)
        if len(self.score) > 1:
            rise = (self.evidence[1] - self.evidence[0]) / (self.score[1] - self.score[0])
            found = found + rise * np.minimum(values - self.score[0], 0.0)
        result: FloatArray = found + self.slope * np.maximum(values - self.score[-1], 0.0)
        return result

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "score": self.score.tolist(),
            "evidence": self.evidence.tolist(),
            "slope": self.slope,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what ``to_json`` gave."""
        return cls(np.array(values["score"]), np.array(values["evidence"]), values["slope"])


@dataclass(frozen=True)
class Scale:
    """How one score of several contrasts becomes one number."""

    column: Mapping[str, str]
    """Contrast → the score's column in that contrast's table."""
    single: Mapping[str, Evidence]
    """Contrast → its evidence."""
    mean: Mapping[str, Evidence]
    """Contrasts, as ``T2w+FLAIR`` → evidence of the mean of theirs; a set of contrasts that no two
    healthy validation subjects have is not there, and its mean stays as it is."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "column": dict(self.column),
            "single": {name: each.to_json() for name, each in self.single.items()},
            "mean": {name: each.to_json() for name, each in self.mean.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what ``to_json`` gave."""
        single, mean = (
            {name: Evidence.from_json(each) for name, each in values[part].items()}
            for part in ("single", "mean")
        )
        return cls(values["column"], single, mean)


def set_name(contrasts: Sequence[str]) -> str:
    """One name for a set of contrasts, in the order given."""
    return "+".join(contrasts)


def contrast_sets(contrasts: Sequence[str]) -> list[tuple[str, ...]]:
    """Every set of two or more of ``contrasts``, in their order."""
    sizes = range(2, len(contrasts) + 1)
    return [each for size in sizes for each in combinations(contrasts, size)]


def fuse(
    tables: Mapping[str, pd.DataFrame], columns: Mapping[str, Mapping[str, str]]
) -> tuple[pd.DataFrame, dict[str, Scale]]:
    """Fuse scores tables, one a contrast, and say how; scans of one subject and session are joined.

    ``columns``: name of a fused score → contrast → the column there. Returns the joined table
    (``join_scan``, every scan with at least one of the contrasts) with the fused scores
    (``with_fused``), and their scales. Raises ``CalibrationError`` without healthy validation
    slices of a contrast, or when their score ``fused`` does not vary; ``DataError`` when a subject
    is in several splits, or no scan of two contrasts is one patient's.
    """
    single = {
        name: {contrast: _single(tables[contrast], column, contrast, name)
               for contrast, column in of.items()}
        for name, of in columns.items()
    }  # fmt: skip
    first = {name: Scale(of, single[name], {}) for name, of in columns.items()}
    groups = {
        contrast: dict(list(table.assign(session=_sessions(table)).groupby(_SCAN, sort=False)))
        for contrast, table in tables.items()
    }
    scans = dict.fromkeys(scan for of in groups.values() for scan in of)
    parts = ({c: of[scan] for c, of in groups.items() if scan in of} for scan in scans)
    joined = pd.concat([join_scan(each, first) for each in parts], ignore_index=True)
    if not joined[CONTRASTS].str.contains("+", regex=False).any():
        sources = "; ".join(
            f"{c}: {', '.join(sorted(set(t['source'])))}" for c, t in tables.items()
        )
        raise DataError(
            f"fuse: expected scans of one subject, session and source in two tables, found none "
            f"(sources: {sources})"
        )
    scales = {
        name: Scale(scale.column, scale.single, _means(joined, name, list(tables)))
        for name, scale in first.items()
    }
    return with_fused(joined, scales), scales


def join_scan(parts: Mapping[str, pd.DataFrame], scales: Mapping[str, Scale]) -> pd.DataFrame:
    """One patient's slices: the evidence of each contrast on the grid with the most slices.

    ``parts``: contrast → the rows of its scan. The result has that grid's key columns,
    ``contrasts`` and, for each scale and contrast, a column ``single_name``. Slices on one grid are
    joined by their number, others by their relative position in the brain, linearly, the outermost
    held.
    """
    order = next(iter(scales.values())).single
    parts = {contrast: parts[contrast] for contrast in order if contrast in parts}
    _require_one_split(parts)
    chosen = max(parts, key=lambda c: (len(parts[c]), _has_masks(parts[c])))
    grid = parts[chosen]
    kept = [c for c in (*KEY_COLUMNS, *OPTIONAL_COLUMNS) if c in grid.columns]
    out = grid[kept].reset_index(drop=True).sort_values("slice", ignore_index=True)
    out[CONTRASTS] = set_name(list(parts))
    evidence: dict[str, FloatArray] = {}
    for contrast, part in parts.items():
        ordered = part.sort_values("slice")
        where = "slice" if on_one_grid(out, ordered) else "position"
        ordered = ordered.sort_values(where)
        for name, scale in scales.items():
            found = scale.single[contrast](ordered[scale.column[contrast]].to_numpy(np.float64))
            at = np.interp(out[where].to_numpy(), ordered[where].to_numpy(), found)
            evidence[single_name(name, contrast)] = at
    return pd.concat([out, pd.DataFrame(evidence, index=out.index)], axis=1)


def single_name(name: str, contrast: str) -> str:
    """Column of one contrast's evidence for the fused score ``name``."""
    return f"{name}_{contrast}"


def on_one_grid(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether slice numbers mean the same places in both scans, their rows rising by number.

    They do when the same numbers lie at the same relative positions, but for what the outlines of
    the brain differ by.
    """
    shared, mine, theirs = np.intersect1d(one["slice"], other["slice"], return_indices=True)
    if len(shared) < min(len(one), len(other)) / 2:
        return False
    here, there = one["position"].to_numpy()[mine], other["position"].to_numpy()[theirs]
    step = 1.0 / max(int(one["slice"].max() - one["slice"].min()), 1)
    return bool(np.abs(here - there).max() <= max(_SAME_PLACE, 1.01 * step))


def with_fused(joined: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """The joined table with every fused score, columns named like the scales."""
    fused: dict[str, FloatArray] = {}
    for name, scale in scales.items():
        fused[name] = np.zeros(len(joined))
        for present, rows in joined.groupby(CONTRASTS, sort=False).indices.items():
            mean = _mean(joined.iloc[rows], name, str(present).split("+"))
            evidence = scale.mean.get(str(present))
            fused[name][rows] = mean if evidence is None else evidence(mean)
    before = joined.drop(columns=list(fused), errors="ignore")
    return pd.concat([before, pd.DataFrame(fused, index=joined.index)], axis=1)


def scores_of(fused: pd.DataFrame, scales: Mapping[str, Scale]) -> tuple[pd.DataFrame, list[str]]:
    """The result of ``fuse`` as a scores table, and which contrasts some of its scans lack.

    The columns ``fused_T2w`` … stand there only for contrasts that every scan has, since a scores
    table has a number in every row.
    """
    columns = [*KEY_COLUMNS, *(c for c in OPTIONAL_COLUMNS if c in fused.columns)]
    if SPACING in columns and fused[SPACING].isna().any():
        columns.remove(SPACING)
    if "session" in columns and not fused["session"].any():
        columns.remove("session")
    contrasts = list(scales[FUSED].single)
    lacking = [c for c in contrasts if fused[single_name(FUSED, c)].isna().any()]
    singles = [single_name(FUSED, c) for c in contrasts if c not in lacking]
    others = [name for name in scales if name != FUSED]
    return fused[[*columns, FUSED, *singles, *others]], lacking


def healthy_with(fused: pd.DataFrame, contrasts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Rows of healthy validation scans that have all of ``contrasts``, (n,)."""
    chosen = (fused["role"] == "healthy") & (fused["split"] == "val")
    there = [set(contrasts) <= set(present.split("+")) for present in fused[CONTRASTS]]
    return np.asarray(chosen.to_numpy() & np.array(there, dtype=bool))


def _single(table: pd.DataFrame, column: str, contrast: str, name: str) -> Evidence:
    healthy = table[(table["role"] == "healthy") & (table["split"] == "val")]
    if healthy.empty:
        raise CalibrationError(
            f"{contrast}: expected slices of role healthy and split val to put scores on a common "
            f"scale, found none"
        )
    found = Evidence.of(healthy[column].to_numpy(np.float64), _people(healthy))
    if name == FUSED and not found.slope:
        raise CalibrationError(
            f"{contrast}: expected a score {column} that varies among healthy validation slices"
        )
    return found


def _means(joined: pd.DataFrame, name: str, contrasts: list[str]) -> dict[str, Evidence]:
    """Evidence of the mean of every set of contrasts, from the healthy scans that have them all."""
    found = {}
    for several in contrast_sets(contrasts):
        healthy = joined[healthy_with(joined, several)]
        if healthy[list(SUBJECT_KEY)].drop_duplicates().shape[0] > 1:
            mean = _mean(healthy, name, several)
            found[set_name(several)] = Evidence.of(mean, _people(healthy))
    return found


def _mean(rows: pd.DataFrame, name: str, contrasts: Sequence[str]) -> FloatArray:
    """(n,)."""
    values = rows[[single_name(name, contrast) for contrast in contrasts]].to_numpy(np.float64)
    return np.asarray(values.mean(axis=1), dtype=np.float64)


def _people(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    return np.asarray(table.groupby(list(SUBJECT_KEY), sort=False).ngroup(), dtype=np.int64)


def _sessions(table: pd.DataFrame) -> pd.Series | str:
    return table["session"] if "session" in table.columns else ""


def _has_masks(table: pd.DataFrame) -> bool:
    return "tumour_px" in table.columns and bool(table["tumour_px"].notna().all())


def _require_one_split(parts: Mapping[str, pd.DataFrame]) -> None:
    """Refuse a subject who is in several splits; slices just detected are in none."""
    splits = {c: str(t["split"].iloc[0]) for c, t in parts.items() if "split" in t.columns}
    if len(set(splits.values())) > 1:
        subject = next(iter(parts.values()))["subject"].iloc[0]
        listed = ", ".join(f"{split} in {contrast}" for contrast, split in splits.items())
        raise DataError(
            f"fuse: expected subject {subject} in the same split in every contrast, found {listed}"
        )
