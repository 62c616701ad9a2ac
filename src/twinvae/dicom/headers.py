"""The DICOM files of a folder, sorted into series by their headers.

Only files as DICOM PS3.10 section 7.1 defines them are seen: 128 bytes, then `DICM`. Names and
folders mean nothing; SeriesInstanceUID alone says what belongs together (PS3.3 C.7.3.1).
"""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinvae.errors import DataError

_DICOMDIR = "1.2.840.10008.1.3.10"  # Media Storage Directory, PS3.4 annex B
_REMAINS = (b"DICM", b"\2\0\0\0UL\4\0", b"\2\0\1\0OB\0\0")  # how the first group begins, PS3.10 7.1
_HEADERS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"),
    *("StudyDate", "StudyTime", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *(
        "SeriesNumber",
        "Modality",
        "ImageType",
        "ContrastBolusAgent",
        "ContrastBolusAgentSequence",
    ),
    *("ScanningSequence", "AcquisitionContrast", "EchoPulseSequence"),
    *("EchoTime", "RepetitionTime", "InversionTime"),
    *("Rows", "Columns", "NumberOfFrames", "PixelSpacing", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ModalityLUTSequence",),
)


@dataclass
class Series:
    """The image files of one SeriesInstanceUID."""

    uid: str
    files: list[Path] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    """One pydicom dataset a file, without its pixels."""

    def text(self, keyword: str) -> str:
        """An attribute of the first file as text; empty when it has none."""
        value = self.headers[0].get(keyword)
        return "" if value is None else str(value).strip()

    @property
    def name(self) -> str:
        """How messages call it."""
        description = self.text("SeriesDescription")
        return f"series {self.uid}" + (f" ({description})" if description else "")

    @property
    def images(self) -> int:
        """How many frames its files claim to hold."""
        return sum(int(header.get("NumberOfFrames") or 1) for header in self.headers)


def pydicom() -> Any:
    """pydicom, untyped; imported only when DICOM is met."""
    return importlib.import_module("pydicom")


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's remarks on values that break the standard; what matters is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(file: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def dicom_files(path: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM files at or below ``path``, and those that were some, by their traces or names.

    Hidden ones are left out; both in sorted order.
    """
    if path.is_file():
        return ([path], []) if is_dicom(path) else ([], [])
    found = []
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(folder) / name for name in names if not name.startswith(".")]
    good = [file for file in sorted(found) if is_dicom(file)]
    alike = {(file.parent, _numberless(file)) for file in good}
    others = sorted(set(found) - set(good))
    return good, [f for f in others if (f.parent, _numberless(f)) in alike or _was_dicom(f)]


def _numberless(file: Path) -> str:
    """A name without its numbers: that of a slice is its neighbours'."""
    return re.sub(r"\d+", "#", file.name)


def _was_dicom(file: Path) -> bool:
    """Whether the beginning looks like that of a DICOM file, only damaged or moved."""
    try:
        with file.open("rb") as stream:
            beginning = stream.read(160)
    except OSError:
        return False
    return any(trace in beginning[100:] for trace in _REMAINS)


def list_series(path: Path, broken: list[str] | None = None) -> list[Series]:
    """The image series at or below ``path``, in the order of their first files.

    A file that cannot be read raises ``DataError``, or adds its reason to ``broken`` where given.
    Files that hold no image (DICOMDIR, reports) are passed over.
    """
    found: dict[str, Series] = {}
    good, damaged = dicom_files(path)
    lost = set(damaged)
    for file in sorted([*good, *damaged]):
        try:
            if file in lost:  # without its word, a stack would lack a slice
                raise DataError(f"{file}: expected a DICOM file, found its beginning damaged")
            header = _read_header(file)
        except DataError as error:
            if broken is None:
                raise
            broken.append(str(error))
            continue
        if header is None:
            continue
        uid = str(header.SeriesInstanceUID)
        series = found.setdefault(uid, Series(uid))
        series.files.append(file)
        series.headers.append(header)
    return list(found.values())


def read_dataset(file: Path, **options: Any) -> Any:
    """A pydicom dataset; ``DataError`` naming the file when it is damaged."""
    try:
        with quiet():
            return pydicom().dcmread(file, **options)
    except MemoryError:
        raise DataError(f"{file}: expected a DICOM file that fits into memory") from None
    except Exception as error:  # whatever a damaged file makes pydicom raise
        raise DataError(
            f"{file}: expected a readable DICOM file, found damage ({_said(error)})"
        ) from error


def value_of(dataset: Any, keyword: str, file: Path) -> Any:
    """An attribute's value, or None; ``DataError`` when it is malformed."""
    try:
        with quiet():
            value = dataset.get(keyword)
            return None if value is None or value == "" else value
    except Exception as error:
        raise DataError(
            f"{file}: expected a valid {keyword}, found damage ({_said(error)})"
        ) from error


def _read_header(file: Path) -> Any:
    """The header of an image; None for a file of another kind."""
    header = read_dataset(file, stop_before_pixels=True, specific_tags=list(_HEADERS))
    kind = value_of(header, "SOPClassUID", file)
    stored = value_of(header.file_meta, "MediaStorageSOPClassUID", file)
    kind = kind or stored
    if not kind:
        raise DataError(f"{file}: expected SOPClassUID, found none: truncated?")
    for keyword in _HEADERS:  # so that whoever asks later gets a value, not a surprise
        value_of(header, keyword, file)
    if header.get("Rows") is None:
        name = str(getattr(kind, "name", kind))
        if str(kind) == _DICOMDIR or ("Image Storage" not in name and _whole(header, stored)):
            return None
        raise DataError(f"{file}: expected Rows in an object of {name}, found none: truncated?")
    if not header.get("SeriesInstanceUID"):
        raise DataError(f"{file}: expected SeriesInstanceUID, found none")
    return header


def _whole(header: Any, stored: Any) -> bool:
    """Whether an object of any kind has what each must have (PS3.3 C.12.1 and C.7.3.1)."""
    needed = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
    return stored in (None, header.get("SOPClassUID")) and all(header.get(n) for n in needed)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
