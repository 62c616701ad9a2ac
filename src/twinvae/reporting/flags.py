"""Flags of quality control for the report: how many scans, which, and leaks first."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from twinvae.imaging.quality import FLAGS, flag_counts, leaks

_NAMED = 5  # scans of a flag that are named


@dataclass(frozen=True)
class FlagSummary:
    """What the page says about flagged scans."""

    scans: int
    flagged: int
    lines: tuple[tuple[str, str, int, str], ...]
    """Flag, meaning, number of scans, the first of them; worst first."""
    leaks: tuple[str, ...]
    """Scans whose voxels are in another split too."""


def summarise_flags(table: pd.DataFrame) -> FlagSummary:
    """From a table of flags, as in qc.tsv."""
    lines = []
    for name, count in flag_counts(table).items():
        has = [name in str(flags).split(",") for flags in table["flags"]]
        named = [f"{row['source']}/{row['subject']}" for _, row in table[has].iterrows()][:_NAMED]
        more = f" and {count - _NAMED} more" if count > _NAMED else ""
        lines.append((name.replace("_", " "), FLAGS[name], count, ", ".join(named) + more))
    flagged = int((table["flags"] != "").sum())
    return FlagSummary(len(table), flagged, tuple(lines), tuple(leaks(table)))
