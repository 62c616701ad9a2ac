"""Look at every scan of a manifest without preparing it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae.cohort import read_manifest
from twinvae.config import BrainMask, Reorient
from twinvae.errors import TwinvaeError
from twinvae.imaging.quality.flags import IDENTITY, flag_scans
from twinvae.imaging.quality.look import Look
from twinvae.imaging.recipe import run_steps
from twinvae.imaging.scan import ScanFiles
from twinvae.parallel.pool import DIED, ways
from twinvae.progress import progress_bar

_STEPS = (Reorient(), BrainMask())


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
