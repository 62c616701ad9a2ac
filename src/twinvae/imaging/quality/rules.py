"""The rules behind the flags. Each looks at the rows of one source, or of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.cohort import TUMOUR_FREE

Found = Iterator[tuple[int, tuple[str, str]]]
"""Row numbers of flagged scans, each with its flag and why."""
Rows = NDArray[np.int64]

_FEWEST = 5  # scans of a source, before one can be unlike the others
_Z = 3.5  # Iglewicz and Hoaglin (1993)
_BRAIN_ML = (500.0, 2300.0)
_TYPE_LIMITS = (32767.0, 65535.0)


@dataclass(frozen=True)
class Rule:
    """A rule, and whether it compares the scans of one source only."""

    find: Callable[[pd.DataFrame, Rows], Found]
    within_source: bool = True

    def __call__(self, table: pd.DataFrame, rows: Rows) -> Found:
        """What it finds among ``rows``; may fill columns of ``table``."""
        return self.find(table, rows)


def sources_of(table: pd.DataFrame, *, within: bool) -> list[Rows]:
    """Row numbers, source by source, or all of them together."""
    if not within:
        return [np.arange(len(table))]
    sources = table["source"].to_numpy()
    return [np.flatnonzero(sources == name) for name in sorted(set(sources))]


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the median in robust standard deviations, of which one is at least 3 %.

    NaN where there is no value, and everywhere when there are fewer than five.
    """
    known = values[np.isfinite(values)]
    if len(known) < _FEWEST:
        return np.full(len(values), np.nan)
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    z: NDArray[np.float64] = (values - middle) / max(spread, 0.03 * abs(middle), 1e-12)
    return z


def _size(table: pd.DataFrame, rows: Rows) -> Found:
    kinds = (
        ("brain_volume", "brain volume", "brain_ml", "brain_z", "ml", _BRAIN_ML),
        ("brain_area", "largest brain area", "area_cm2", "area_z", "cm²", (0.0, np.inf)),
    )
    for flag, name, column, z_column, unit, (low, high) in kinds:
        values = table[column].to_numpy(np.float64)[rows]
        z = robust_z(values)
        table.loc[rows, z_column] = np.round(z, 2)
        for row, value, apart in zip(rows, values, z, strict=True):
            if np.isfinite(value) and not low <= value <= high:
                yield row, (flag, f"{name} {value:.0f} {unit}, of no human brain")
            elif abs(apart) > _Z:
                typical = np.nanmedian(values)
                said = f"{name} {value:.0f} {unit}, typical {typical:.0f} (z {apart:+.1f})"
                yield row, (flag, said)


def _spacing(table: pd.DataFrame, rows: Rows) -> Found:
    columns = ["spacing_x_mm", "spacing_y_mm", "spacing_z_mm"]
    sides = table[columns].to_numpy(np.float64)[rows]
    known = np.isfinite(sides).all(axis=1)
    seen, counts = np.unique(np.round(sides[known], 2), axis=0, return_counts=True)
    mode = seen[counts.argmax()] if len(seen) and counts.max() > len(sides) / 2 else None
    for row, here, fine in zip(rows, sides, known, strict=True):
        said = "×".join(f"{side:.3g}" for side in here) + " mm"
        if not fine:
            continue
        if here.min() < 0.2 or here.max() > 12:
            yield row, ("spacing", f"voxels of {said}: wrong unit?")
        elif max(here[0], here[1]) > 1.25 * min(here[0], here[1]):
            yield row, ("spacing", f"voxels of {said} are not square in the axial plane")
        elif mode is not None and (np.abs(here / mode - 1) > 0.02).any():
            usual = "×".join(f"{side:.3g}" for side in mode)
            yield row, ("spacing", f"voxels of {said}, the source's are {usual}")


def _clipped(table: pd.DataFrame, rows: Rows) -> Found:
    for row in rows:
        top, voxels, share = (table[c][row] for c in ("top_value", "top_voxels", "top_share"))
        if (voxels >= 20 and share >= 1e-4) or top in _TYPE_LIMITS:
            yield row, ("clipped", f"{voxels:.0f} voxels ({share:.2%}) at the top value {top:g}")


def _left_right(table: pd.DataFrame, rows: Rows) -> Found:
    hands = table["handedness"].to_numpy(np.float64)[rows]
    known = hands[np.isfinite(hands)]
    usual = float(np.sign(known.sum())) if len(known) else 0.0
    sure = len(known) >= _FEWEST and (known == usual).mean() >= 0.8
    for row, hand in zip(rows, hands, strict=True):
        codes = table["qform_code"][row], table["sform_code"][row]
        apart, side = table["forms_apart_mm"][row], table[["spacing_x_mm"]].iloc[row, 0]
        if codes == (0, 0):
            yield row, ("left_right", "neither qform nor sform is set")
        elif table["forms_mirror"][row] == 1:
            yield row, ("left_right", "qform and sform are mirror images of each other")
        elif apart > max(1.0, np.nan_to_num(side)):
            yield row, ("left_right", f"qform and sform put voxels {apart:.1f} mm apart")
        elif sure and hand == -usual:
            yield row, ("left_right", "stored as the mirror image of the source's other scans")


def _tumour(table: pd.DataFrame, rows: Rows) -> Found:
    for row in rows:
        voxels = table["tumour_voxels"][row]
        if voxels == 0:
            yield row, ("tumour_empty", "tumour mask without a voxel")
            continue
        outside = np.nan_to_num(table["tumour_outside_brain"][row])
        zero = np.nan_to_num(table["tumour_in_background"][row])
        if max(outside, zero) > 0.01 * voxels:
            said = (
                f"tumour mask: {outside / voxels:.1%} outside the brain, {zero / voxels:.1%} on 0"
            )
            yield row, ("tumour_outside", said)


def _turned(table: pd.DataFrame, rows: Rows) -> Found:
    for row in rows:
        if table["tumour_turn"][row]:
            yield row, ("tumour_turned", f"tumour mask: {table['tumour_turn'][row]}")


def _duplicates(table: pd.DataFrame, rows: Rows) -> Found:
    del rows
    # A patient who stands in for a healthy person is listed twice on purpose.
    stands_in = table["source"].str.endswith(TUMOUR_FREE)
    known = table[(table["content"] != "") & ~stands_in]
    for _, twins in known.groupby("content", sort=False):
        if len(twins) < 2:
            continue
        splits = set(twins["split"]) - {""}
        flag = "duplicate_across_splits" if len(splits) > 1 else "duplicate"
        for row in twins.index:
            others = [_name(twins.loc[other]) for other in twins.index if other != row]
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            said = ", ".join(others[:3]) + more
            table.loc[row, "duplicate_of"] = said
            yield int(row), (flag, f"same voxels as {said}")


def _name(row: Any) -> str:
    session = f"/{row['session']}" if row["session"] else ""
    split = f" ({row['split']})" if row["split"] else ""
    return f"{row['source']}/{row['subject']}{session}{split}"


RULES = (
    Rule(_duplicates, within_source=False),
    Rule(_left_right),
    Rule(_tumour),
    Rule(_turned),
    Rule(_size),
    Rule(_spacing),
    Rule(_clipped),
)
