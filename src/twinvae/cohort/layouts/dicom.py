"""A folder of DICOM studies, as a hospital's archive exports them.

The tree it expects, nested and named in any way (only headers count)::

    export/
      PATIENT1/STUDY1/SERIES1/IM000001        classic: one slice a file
      PATIENT1/STUDY1/SERIES7/IM000001        enhanced multi-frame: all slices in one file
      DICOMDIR, reports, screenshots          passed over

Subject: PatientID, or where that is empty the folder below `export`. Session: StudyDate, numbered
(`20240131_2`) where a patient has two studies of one day. The image is the folder of the series,
or `folder#SeriesInstanceUID` where the folder holds others too. No masks: skull-strip, or give
brain masks by a table.

Of every study one series of the contrast is taken: see `series.py` for the rules, which read
SeriesDescription, ProtocolName, ImageType, the times of the sequence and the orientation. What was
taken and what was left, and why, is printed; `--series PATTERN` overrides all rules.
Attributes: DICOM PS3.3, C.7.1.1 patient, C.7.2.1 study, C.7.3.1 series, C.8.3.1 MR image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from twinvae.cohort.layouts.contrast import standard_contrast
from twinvae.cohort.layouts.scans import Scan, scans_table
from twinvae.cohort.layouts.series import Candidate, best_series, candidate
from twinvae.dicom import is_dicom, list_series
from twinvae.errors import DataError
from twinvae.progress import say
from twinvae.vocabulary import Role

_IMAGES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
_LOOKED_AT = 200  # files


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether there are DICOM files and no images of other formats, which would go first."""
    if path.is_file() or any(file.name.lower().endswith(_IMAGES) for file in files):
        return False
    return any(is_dicom(file) for file in files[:_LOOKED_AT])


def index(
    path: Path, role: Role, source: str, contrast: str, series: str | None = None
) -> pd.DataFrame:
    """Manifest rows of the series of ``contrast``, or of those that match ``series``."""
    return scans_table(path, find(path, contrast, series), role, source, contrast)


def find(path: Path, contrast: str, pattern: str | None = None) -> list[Scan]:
    """The chosen series of every study, and one of each other contrast it has.

    Raises ``DataError`` when ``pattern`` matches no series.
    """
    candidates = _candidates(path, contrast, pattern)
    if pattern is not None and not any(one.matched for one in candidates):
        raise DataError(
            f"{path}: expected a series whose description or UID matches {pattern!r}, found "
            + (", ".join(sorted({repr(one.description) for one in candidates})) or "none")
        )
    studies: dict[str, list[Candidate]] = {}
    for one in candidates:
        studies.setdefault(one.series.text("StudyInstanceUID"), []).append(one)
    sessions = _sessions(path, studies)
    folders = [one.folder for one in candidates]
    scans = []
    for study, members in studies.items():
        subject, session = sessions[study]
        chosen = best_series(members)
        _print_choice(f"{subject} {session}".strip(), members, chosen, contrast)
        scans += [
            Scan(
                subject=subject,
                session=session,
                contrast=name,
                image=_image(one, alone=_alone(one, folders)),
            )
            for name, one in chosen.items()
        ]
    return scans


def _candidates(path: Path, contrast: str, pattern: str | None) -> list[Candidate]:
    broken: list[str] = []
    judge = partial(candidate, contrast=contrast, pattern=pattern)
    found = [judge(series) for series in list_series(path.absolute(), broken)]
    for reason in broken[:5]:
        say(f"unreadable: {reason}")
    if len(broken) > 5:
        say(f"unreadable: {len(broken) - 5} more files below {path}")
    return found


def _sessions(path: Path, studies: dict[str, list[Candidate]]) -> dict[str, tuple[str, str]]:
    """Subject and session of each study; sessions of one subject differ."""
    known: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for uid, members in studies.items():
        first = members[0].series
        date = re.sub(r"\D", "", first.text("StudyDate"))
        known.setdefault((_subject(path, members[0]), date), []).append(
            (first.text("StudyTime"), uid)
        )
    return {
        uid: (subject, "_".join(filter(None, (date, "" if number == 1 else str(number)))))
        for (subject, date), same_day in known.items()
        for number, (_, uid) in enumerate(sorted(same_day), start=1)
    }


def _subject(path: Path, one: Candidate) -> str:
    patient = re.sub(r"[\s/\\]+", "_", one.series.text("PatientID"))
    if patient:
        return patient
    below = one.folder.relative_to(path.absolute()).parts
    return below[0] if below else path.absolute().name


def _alone(one: Candidate, folders: list[Path]) -> bool:
    """Whether no other series lies in or below the folder of this one."""
    return sum(folder.is_relative_to(one.folder) for folder in folders) == 1


def _image(one: Candidate, *, alone: bool) -> str:
    return str(one.folder) if alone else f"{one.folder}#{one.series.uid}"


def _print_choice(
    who: str, members: list[Candidate], chosen: dict[str, Candidate], contrast: str
) -> None:
    wanted = next(
        (c for n, c in chosen.items() if standard_contrast(n) == standard_contrast(contrast)), None
    )
    if wanted is None:
        say(f"{who}: no series of {contrast}; left {_left(members, None)}")
        return
    left = _left(members, wanted)
    say(f"{who}: took {wanted.about} ({wanted.why})" + (f"; left {left}" if left else ""))


def _left(members: list[Candidate], chosen: Candidate | None) -> str:
    rest = [one for one in members if one is not chosen]
    better = "fewer or coarser slices"
    same = chosen.contrast if chosen else ""
    return "; ".join(
        f"{one.about} ({one.refused or (better if one.contrast == same else one.contrast)})"
        for one in rest
    )
