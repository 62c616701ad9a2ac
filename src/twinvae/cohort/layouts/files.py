"""Looking through folders: hidden files (`.DS_Store`, `._scan.nii.gz`) are never seen."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

NIFTI = r"\.nii(?:\.gz)?"  # how NIfTI files end, as a regular expression
_DEPTH = 10  # folders below the one given; Cam-CAN needs eight
_MOST_IN_FOLDER = 64
_MOST_IN_ALL = 4000


def all_files(path: Path) -> list[Path]:
    """Every visible file at or below ``path``, absolute, links not resolved, in sorted order."""
    root = path.absolute()
    found = []
    for folder, below, names in os.walk(root, followlinks=True):
        here = Path(folder)
        deep = len(here.relative_to(root).parts) >= _DEPTH  # a link to a parent ends here too
        below[:] = [] if deep else [name for name in below if not name.startswith(".")]
        found += [here / name for name in names if not name.startswith(".")]
    return sorted(found)


def some_files(path: Path) -> list[Path]:
    """Visible files below ``path``, the nearest first: enough to recognise a layout, never many.

    At most 64 entries of each folder are looked at, and 4,000 in all.
    """
    return list(_nearest(path.absolute()))


def _nearest(root: Path) -> Iterator[Path]:
    waiting = deque([(root, 0)])
    left = _MOST_IN_ALL
    while waiting and left > 0:
        folder, depth = waiting.popleft()
        try:
            entries = sorted(e for e in folder.iterdir() if not e.name.startswith("."))
        except OSError:  # not a folder, or one we may not read
            continue
        for entry in entries[:_MOST_IN_FOLDER]:
            left -= 1
            if not entry.is_dir():
                yield entry
            elif depth < _DEPTH:
                waiting.append((entry, depth + 1))


def folder_above(path: Path, pattern: str) -> str:
    """Name of the nearest folder above ``path`` that matches, in any case; empty if none does."""
    names = (folder.name for folder in path.parents)
    return next((name for name in names if re.fullmatch(pattern, name, re.IGNORECASE)), "")
