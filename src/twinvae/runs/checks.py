"""Say which scans quality control flags: a line in a log, loud for scans that are in two splits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich.markup import escape

from twinvae.files import write_table
from twinvae.imaging.quality import check_cohort, flag_counts, leaks
from twinvae.outputs import check_new_file
from twinvae.progress import console


def check_scans(
    manifest: Path, out: Path | None, *, jobs: int | None = None, overwrite: bool = False
) -> pd.DataFrame:
    """Flags of a manifest's scans, written to ``out`` if given; nothing is prepared.

    Raises ``OutputError`` when ``out`` exists, unless ``overwrite``.
    """
    if out is not None:
        check_new_file(out, [manifest], overwrite=overwrite)
    table = check_cohort(manifest, jobs=jobs)
    if out is not None:
        write_table(out, table)
    say_leaks(table)
    return table


def say_flags(flags: pd.DataFrame, path: Path) -> None:
    """One line about flagged scans, if there are any, and loud ones about leaks."""
    say_leaks(flags)
    counts = flag_counts(flags)
    if counts:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        flagged = int((flags["flags"] != "").sum())
        console.print(
            f"{flagged} of {len(flags)} scans are flagged ({listed}): {path}", soft_wrap=True
        )


def say_leaks(flags: pd.DataFrame) -> None:
    """A line for each scan whose voxels are in another split too."""
    for line in leaks(flags)[:10]:
        console.print(f"[bold red]the same scan in two splits:[/] {escape(line)}", soft_wrap=True)
