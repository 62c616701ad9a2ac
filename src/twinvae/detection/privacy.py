"""What a scan is called in all that is written and said of it: nothing that names a patient.

Hospitals name folders after patients. Of a DICOM series the headers say what would tell: names,
identifiers and dates of the patient and of the study. A part of a path that holds any of these is
written as ``…``, and results whose own name would hold it are called after the series instead. A
series that says it was de-identified (PatientIdentityRemoved, PS3.3 C.7.1.1) has nothing to hide.
Other formats have no headers to ask.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from twinvae.dicom import is_dicom
from twinvae.dicom.headers import read_dataset, value_of
from twinvae.errors import DataError, TwinvaeError, reason_of
from twinvae.files import digest, file_and_volume

HIDDEN = "…"
_NAMES = ("PatientName", "PatientBirthName", "PatientMotherBirthName", "OtherPatientNames")
_NUMBERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID")
_DATES = (
    *("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"),
    *("AcquisitionDateTime",),
)
_REMOVED = "PatientIdentityRemoved"
_LONG = 4  # letters from which a word is looked for within others, as in DoeJane
_LEAST = 3  # letters of an identifier: shorter ones say little, and every counted slice would match
_PARTS = re.compile(r"[^/\\\s:;,()'\"#]+")


@dataclass(frozen=True)
class Cover:
    """What must not be seen of one scan's patient."""

    words: frozenset[str] = frozenset()
    """Small letters and digits only."""
    series: str = ""
    """SeriesInstanceUID of the scan."""

    @classmethod
    def of(cls, scan: Path) -> Cover:
        """From the headers of a DICOM file or folder; empty for other formats and broken files."""
        file, uid = file_and_volume(scan)
        if isinstance(uid, str):
            return _cover_of_series(file, uid)
        return next(map(_cover, _headers(file)), cls())

    def hides(self, text: str) -> bool:
        """Whether a name holds a word of the patient's."""
        parts = {_squashed(part) for part in re.split(r"[\W_]+", text)}
        whole = _squashed(text)
        return any(word in parts or (len(word) >= _LONG and word in whole) for word in self.words)

    def text(self, text: object) -> str:
        """The text with each part of a path, and each word, that holds one covered."""
        if not self.words:
            return str(text)
        return _PARTS.sub(lambda m: HIDDEN if self.hides(m[0]) else m[0], str(text))

    def identity(self, text: str) -> str:
        """The text covered; still another one for another text."""
        covered = self.text(text)
        return covered if covered == text else f"{covered} ({digest(text)})"


def called(scan: Path) -> str:
    """What a scan is called in all that is written of it: its path, covered."""
    return Cover.of(scan).text(scan)


def told(error: Exception, scan: Path) -> str:
    """Why a scan cannot be used, covered."""
    return Cover.of(scan).text(reason_of(error, scan))


def raise_told(error: Exception, scan: Path) -> NoReturn:
    """Raise ``error`` again, its words covered; one that is not ours as it is."""
    if isinstance(error, TwinvaeError):
        raise type(error)(told(error, scan)) from error
    raise error


def is_dicom_scan(scan: Path) -> bool:
    """Whether a scan, as given to `detect`, is a DICOM file or a folder that holds some."""
    return next(_dicom_files(file_and_volume(scan)[0]), None) is not None


def names_of(
    scans: Sequence[Path],
    covers: Sequence[Cover],
    reserved: Iterable[str],
    wanted: Sequence[str] = (),
) -> list[str]:
    """A folder name for each scan, numbered where it repeats: the wanted one, where there is one
    that is not empty, else its own without suffixes.

    No two are the same, not even on disks that take `A` for `a`, and none is ``reserved``.
    """
    asked = wanted or [""] * len(scans)
    given = zip(scans, covers, asked, strict=True)
    stems = [_stem(scan, cover, name) for scan, cover, name in given]
    folded = [stem.casefold() for stem in stems]
    kept = set(reserved)
    taken = {*kept, *(stem for stem in folded if folded.count(stem) == 1)}
    names = []
    for stem, fold in zip(stems, folded, strict=True):
        numbered = (f"{stem}_{number}" for number in itertools.count(1))
        alone = folded.count(fold) == 1 and fold not in kept
        names.append(stem if alone else next(n for n in numbered if n.casefold() not in taken))
        taken.add(names[-1].casefold())
    return names


def _stem(scan: Path, cover: Cover, wanted: str) -> str:
    file = file_and_volume(scan)[0]
    stem = wanted or (file.resolve().name if file.is_dir() else file.name.split(".")[0])
    return f"series-{digest(cover.series)[:8]}" if cover.hides(stem) else stem or "scan"


def _dicom_files(path: Path) -> Iterator[Path]:
    """The DICOM files at or below a path, in the order of their names, found as they are asked."""
    if path.is_file():
        yield from [path] if is_dicom(path) else []
    for folder, below, names in os.walk(path):
        below.sort()
        for name in sorted(names):
            if not name.startswith(".") and is_dicom(Path(folder) / name):
                yield Path(folder) / name


@cache  # a UID belongs to one series and so to one patient: what it hides never changes
def _cover_of_series(folder: Path, uid: str) -> Cover:
    """Of one series among the others of a folder."""
    wanted = (h for h in _headers(folder) if h.SeriesInstanceUID == uid)
    return next(map(_cover, wanted), Cover())


def _headers(path: Path) -> Iterator[Any]:
    """What says whose they are, of each file of a series; the broken are told of by who reads."""
    tags = ["SeriesInstanceUID", "SpecificCharacterSet", _REMOVED, *_NAMES, *_NUMBERS, *_DATES]
    for file in _dicom_files(path):
        with suppress(DataError):
            header = read_dataset(file, stop_before_pixels=True, specific_tags=tags)
            if value_of(header, "SeriesInstanceUID", file):  # not so in DICOMDIR
                yield header


def _cover(header: Any) -> Cover:
    series = str(header.SeriesInstanceUID)
    if "YES" in map(str.upper, _values(header, _REMOVED)):
        return Cover(series=series)
    names = [value for keyword in _NAMES for value in _values(header, keyword)]
    words = {_squashed(part) for name in names for part in re.split(r"[\W_]+", name)}
    numbers = {_squashed(v) for keyword in _NUMBERS for v in _values(header, keyword)}
    words = {word for word in words if len(word) > 1} | {n for n in numbers if len(n) >= _LEAST}
    for date in {_squashed(v)[:8] for keyword in _DATES for v in _values(header, keyword)}:
        if len(date) == 8:
            year, month, day = date[:4], date[4:6], date[6:]
            words |= {date, date[2:], day + month + year, month + day + year}
    return Cover(frozenset(words), series)


def _values(header: Any, keyword: str) -> list[str]:
    """Every value of an attribute as text; one that cannot be read tells nothing."""
    try:
        value = header.get(keyword)
    except Exception:  # whatever damage makes pydicom raise
        return []
    several = value if isinstance(value, MutableSequence) else [value]
    return [str(one).strip() for one in several if one is not None]


def _squashed(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()
