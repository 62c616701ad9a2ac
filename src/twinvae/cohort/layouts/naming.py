"""The files of a folder, and file names that say it all: who, when, which contrast or mask.

Hidden files (`.DS_Store`, `._scan.nii.gz`) are never seen.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinvae.cohort.layouts.scans import Scan

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


@dataclass(frozen=True)
class Naming:
    """A file name taken apart; folders may be nested in any way, and case does not matter.

    ``pattern`` has the groups ``subject`` and ``kind`` and may have ``session`` and ``part``. A
    kind is a contrast unless it is one of ``tumour`` or ``brain``: then the file is that mask of
    every scan of its visit.
    """

    pattern: str
    tumour: tuple[str, ...] = ("seg",)
    brain: tuple[str, ...] = ()

    def match(self, file: Path) -> re.Match[str] | None:
        """The name of ``file`` taken apart, or None for another kind of file."""
        return re.fullmatch(self.pattern, file.name, re.IGNORECASE)

    def recognises(self, path: Path, files: Sequence[Path]) -> bool:
        """Whether some file is named like this."""
        del path
        return any(self.match(file) for file in files)

    def find(self, path: Path) -> list[Scan]:
        """Every scan at or below ``path``, with its masks."""
        return self.scans(all_files(path))

    def scans(self, files: Iterable[Path]) -> list[Scan]:
        """Every scan among ``files``, with its masks."""
        images: list[tuple[Path, dict[str, str]]] = []
        masks: dict[tuple[str, str, str], str] = {}
        for file in files:
            match = self.match(file)
            if match is None:
                continue
            name = {key: value or "" for key, value in match.groupdict().items()}
            what = self._mask(name["kind"])
            if what:
                masks.setdefault((what, *_visit(name)), str(file))
            else:
                images.append((file, name))
        return [
            Scan(
                subject=name["subject"],
                session=name.get("session", ""),
                part=name.get("part", ""),
                contrast=name["kind"],
                image=str(file),
                brain_mask=masks.get(("brain", *_visit(name)), ""),
                tumour_mask=masks.get(("tumour", *_visit(name)), ""),
            )
            for file, name in images
        ]

    def _mask(self, kind: str) -> str:
        kind = kind.lower()
        return "tumour" if kind in self.tumour else "brain" if kind in self.brain else ""


def _visit(name: dict[str, str]) -> tuple[str, str]:
    return name["subject"], name.get("session", "")
