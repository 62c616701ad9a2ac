"""From numbers to flags: what a person should look at, scan by scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinvae.cohort.manifest import read_strings
from twinvae.imaging.quality.rules import RULES, sources_of

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
        for group in sources_of(table, within=rule.within_source):
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
