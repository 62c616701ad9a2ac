"""What a layout finds, and how the scans of one contrast become manifest rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from twinvae.cohort.manifest import manifest_table
from twinvae.config.contrast import standard_contrast
from twinvae.errors import DataError, some_of
from twinvae.progress import console
from twinvae.vocabulary import Role

_FEWEST = 3  # subjects of a part that is a source of its own: one for each split


@dataclass(frozen=True)
class Scan:
    """One image of one person, of any contrast."""

    subject: str
    contrast: str
    """As the layout calls it; `standard_contrast` makes names comparable."""
    image: str
    """Absolute path; `#N` after it means volume N of a 4-D file."""
    session: str = ""
    """The visit, where the layout knows one."""
    detail: str = ""
    """Tells repeated scans of one contrast and visit apart (`run-2`)."""
    brain_mask: str = ""
    tumour_mask: str = ""
    part: str = ""
    """A part of the source worth telling apart in every table: a site, a grade."""
    split: str = ""


def scans_table(
    path: Path, scans: Sequence[Scan], role: Role, source: str, contrast: str
) -> pd.DataFrame:
    """Manifest rows of the scans of ``contrast`` among all that the layout found at ``path``.

    Visits that hold other contrasts only are left out with a note, and so is a file that another
    of the same visit repeats. Parts (a site, a grade) become sources ``source-PART`` when each has
    the three subjects that splits need; otherwise the source stays whole, with a note. Raises
    ``DataError`` when no scan has the contrast.
    """
    wanted = standard_contrast(contrast)
    chosen = [scan for scan in scans if standard_contrast(scan.contrast) == wanted]
    if not chosen:
        found = ", ".join(sorted({scan.contrast for scan in scans})) or "no scan"
        raise DataError(f"{path}: expected scans of contrast {contrast}, found {found}")
    _note_missing(path, scans, chosen, contrast)
    return manifest_table(
        {
            "subject": scan.subject,
            "session": scan.session,
            "source": _with_part(source, scan.part),
            "role": role,
            "image": scan.image,
            "brain_mask": scan.brain_mask,
            "tumour_mask": scan.tumour_mask,
            "split": scan.split,
            "contrast": wanted,
        }
        for scan in _whole_if_small(path, _told_apart(path, chosen))
    )


def _note_missing(path: Path, scans: Sequence[Scan], chosen: Sequence[Scan], contrast: str) -> None:
    have = {(scan.subject, scan.session) for scan in chosen}
    others: dict[tuple[str, str], set[str]] = {}
    for scan in scans:
        if (scan.subject, scan.session) not in have:
            others.setdefault((scan.subject, scan.session), set()).add(scan.contrast)
    if others:
        names = [f"{' '.join(v).strip()} ({', '.join(sorted(c))})" for v, c in others.items()]
        _note(path, f"skipped {len(others)} without {contrast}", names)


def _told_apart(path: Path, scans: Sequence[Scan]) -> list[Scan]:
    """One scan for each visit and detail; repeated scans carry their detail in the session."""
    first: dict[tuple[str, str, str], Scan] = {}
    again = []
    for scan in scans:
        if first.setdefault((scan.subject, scan.session, scan.detail), scan) is not scan:
            again.append(scan.image)
    if again:
        _note(path, f"skipped {len(again)} found before under another path", again)
    times = Counter((scan.subject, scan.session) for scan in first.values())
    return [
        replace(scan, session="_".join(filter(None, (scan.session, scan.detail))))
        if times[scan.subject, scan.session] > 1
        else scan
        for scan in first.values()
    ]


def _whole_if_small(path: Path, scans: list[Scan]) -> list[Scan]:
    members: dict[str, set[str]] = {}
    for scan in scans:
        members.setdefault(scan.part, set()).add(scan.subject)
    small = [f"{part} ({len(m)})" for part, m in members.items() if part and len(m) < _FEWEST]
    if not small:
        return scans
    _note(path, f"kept as one source, parts of fewer than {_FEWEST} subjects", small)
    return [replace(scan, part="") for scan in scans]


def _with_part(source: str, part: str) -> str:
    return f"{source}-{part}" if part and not source.endswith(part) else source


def _note(path: Path, what: str, names: Iterable[str]) -> None:
    console.print(f"{path}: {what}: {some_of(sorted(names))}", markup=False, soft_wrap=True)
