"""Layouts whose file names say it all: who, when, and which contrast or mask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinvae.cohort.layouts.files import all_files
from twinvae.cohort.layouts.scans import Scan


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
