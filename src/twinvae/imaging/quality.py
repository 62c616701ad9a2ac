"""Quality control: what may be wrong with a scan, said to people; nothing is dropped for it.

Numbers that were noted of each scan (``facts``) become flags by rules; a rule looks at the rows of
one source, or of all. ``prepare`` flags what it prepares, ``check_cohort`` without preparing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.cohort import TUMOUR_FREE, read_manifest
from twinvae.cohort.manifest import read_strings
from twinvae.config import BrainMask, Reorient
from twinvae.errors import TwinvaeError, some_of
from twinvae.imaging.fitted_recipe import run_steps
from twinvae.imaging.scan import Look, ScanFiles
from twinvae.parallel import DIED, ways
from twinvae.progress import progress_bar

FLAGS = {
    "unreadable": "the scan or a mask of it cannot be read",
    "no_brain": "no brain mask, and the scan is not skull-stripped",
    "not_prepared": "the recipe could not be applied; reason beside it",
    "duplicate_across_splits": "the same voxels are in another split: training data leaks into it",
    "duplicate": "the same voxels occur again",
    "left_right": "left and right may be swapped: no orientation, or two that disagree",
    "tumour_outside": "more than 1 % of the tumour mask lies outside the brain or on zero voxels",
    "tumour_turned": "the tumour mask would lie on bright tissue if an axis were turned round",
    "tumour_empty": "the tumour mask holds no voxel",
    "brain_volume": "brain volume far from the source's others, or of no human brain",
    "brain_area": "largest brain area of a slice far from the source's others",
    "spacing": "voxels unlike the source's others, or far from square in the slice plane",
    "clipped": "many voxels at the highest value, or the highest value is its data type's",
}
"""Every flag and what it means, worst first."""

IDENTITY = ("subject", "session", "source", "role", "split")
NUMBERS = (
    *("spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "brain_ml", "brain_z"),
    *("area_cm2", "area_z", "top_value", "top_voxels", "top_share", "handedness", "qform_code"),
    *("sform_code", "forms_apart_mm", "forms_mirror"),
    *("tumour_voxels", "tumour_in_background", "tumour_outside_brain"),
)
COLUMNS = (*IDENTITY, "image", "flags", "why", *NUMBERS, "content", "duplicate_of")
_TEXT = (*COLUMNS, "failed", "tumour_turn")
_STEPS = (Reorient(), BrainMask())
Found = Iterator[tuple[int, tuple[str, str]]]
"""Row numbers of flagged scans, each with its flag and why."""
Rows = NDArray[np.int64]

_FEWEST = 5  # scans of a source, before one can be unlike the others
_Z = 3.5  # Iglewicz and Hoaglin (1993)
_BRAIN_ML = (500.0, 2300.0)
_TYPE_LIMITS = (32767.0, 65535.0)


def check_cohort(manifest: Path, *, jobs: int | None = None) -> pd.DataFrame:
    """The table of flags (``flag_scans``) of a manifest's scans, in its order.

    The brain is the manifest's mask or, without one, what is not zero in a skull-stripped scan.
    """
    table = read_manifest(manifest, check_files=False)
    scans = [ScanFiles.from_row(row) for _, row in table.iterrows()]
    rows: dict[int, dict[str, Any]] = {}
    way = ways(jobs if len(scans) > 1 else 1)
    outcomes = closing(way(_look_at, list(enumerate(scans)), _lost))
    with progress_bar("check", len(scans)) as bar, outcomes as finished:
        for (number, scan), row in finished:
            rows[number] = row
            bar.note(scan.subject)
            bar.advance()
    return flag_scans(rows[number] for number in range(len(scans)))


def scan_row(scan: ScanFiles) -> dict[str, str]:
    """Who a scan is of, and its file."""
    return {**{name: getattr(scan, name) for name in IDENTITY}, "image": str(scan.image)}


def flag_scans(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A table with a row a scan, columns ``COLUMNS``; ``flags`` joined by commas, worst first.

    ``rows`` hold the scan's identity, ``image`` and the facts that ``Look`` noted; a scan that
    could not be looked at says so in ``failed`` (a flag) and ``why``.
    """
    table = pd.DataFrame(list(rows))
    for name in _TEXT:
        if name not in table:
            table[name] = np.nan if name in NUMBERS else ""
    text = [name for name in _TEXT if name not in NUMBERS]
    table[text] = table[text].astype(object).fillna("").astype(str)
    found: list[dict[str, str]] = [
        {failed: " ".join(why.split())} if failed else {}
        for failed, why in zip(table["failed"], table["why"], strict=True)
    ]
    for rule in RULES:
        for group in _sources_of(table, within=rule.within_source):
            for row, (flag, why) in rule(table, group):
                found[row][flag] = why
    order = list(FLAGS)
    table["flags"] = [",".join(sorted(flags, key=order.index)) for flags in found]
    table["why"] = [
        "; ".join(flags[name] for name in sorted(flags, key=order.index)) for flags in found
    ]
    return table[list(COLUMNS)]


def read_flags(path: Path) -> pd.DataFrame:
    """Read a table of flags; all of it strings."""
    return read_strings(path, "\t")


def flag_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many scans have each flag, worst first, those that nobody has left out."""
    lists = [str(flags).split(",") for flags in table["flags"]]
    counts = {name: sum(name in flags for flags in lists) for name in FLAGS}
    return {name: count for name, count in counts.items() if count}


def leaks(table: pd.DataFrame) -> Sequence[str]:
    """A line for each scan whose voxels are in another split too."""
    hit = table["flags"].str.split(",").map(lambda flags: "duplicate_across_splits" in flags)
    return [
        f"{row['source']}/{row['subject']} ({row['split']}) is also {row['duplicate_of']}"
        for _, row in table[hit].iterrows()
    ]


def tested_on_training(table: pd.DataFrame) -> list[str]:
    """A line for each test scan whose voxels are those of a training scan.

    A patient who stands in for a healthy person is in one split by both names.
    """
    known = table[table["content"] != ""]
    trained = known[known["split"] == "train"].groupby("content", sort=False)
    first = {content: _name(rows.iloc[0]) for content, rows in trained}
    tested = known[(known["split"] == "test") & known["content"].isin(list(first))]
    return [f"{_name(row)} is {first[row['content']]}" for _, row in tested.iterrows()]


def _lost(numbered: tuple[int, ScanFiles]) -> dict[str, Any]:
    return {**scan_row(numbered[1]), "failed": "unreadable", "why": DIED}


def _look_at(numbered: tuple[int, ScanFiles]) -> dict[str, Any]:
    _, scan = numbered
    look = Look()
    row: dict[str, Any] = dict(scan_row(scan))
    try:
        run_steps(scan, _STEPS, ({}, {}), look)
    except TwinvaeError as error:
        row |= {"failed": "no_brain" if look.facts else "unreadable", "why": str(error)}
    except Exception as error:  # one odd scan must not cost the table
        row |= {"failed": "unreadable", "why": f"{type(error).__name__}: {error}"}
    return {**row, **look.facts}


@dataclass(frozen=True)
class Rule:
    """A rule, and whether it compares the scans of one source only."""

    find: Callable[[pd.DataFrame, Rows], Found]
    within_source: bool = True

    def __call__(self, table: pd.DataFrame, rows: Rows) -> Found:
        """What it finds among ``rows``; may fill columns of ``table``."""
        return self.find(table, rows)


def _sources_of(table: pd.DataFrame, *, within: bool) -> list[Rows]:
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
        first = {other: _name(twins.loc[other]) for other in twins.index[:4]}
        for row in twins.index:
            others = [name for other, name in first.items() if other != row]
            said = some_of(others, 3, total=len(twins) - 1)
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
