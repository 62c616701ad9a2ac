"""Which contrast an image says it is of: by its name or, of DICOM, by its headers."""

from __future__ import annotations

from pathlib import Path

from twinvae.cohort.layouts.dicom_studies import series_contrast
from twinvae.cohort.patients import named_contrast
from twinvae.config.contrast import standard_contrast
from twinvae.dicom import is_dicom, list_series
from twinvae.files import file_and_volume

_ANY = ("random", "any")
"""What cohorts of all contrasts are said to be of."""


def told_contrast(image: Path) -> tuple[str, str]:
    """The contrast that ``image`` says plainly, and what says so; both empty when nothing does.

    Of DICOM the headers are asked as the layout `dicom` asks them, never the name: words of
    SeriesDescription and ProtocolName, then the sequence's times. Of other files the name, where
    it holds one contrast and no other. A file that is missing or broken says nothing: reading it
    says why.
    """
    file, uid = file_and_volume(image)
    if file.is_file() and not is_dicom(file):
        return named_contrast(image), "its name"
    series = [s for s in list_series(file, broken=[]) if not isinstance(uid, str) or s.uid == uid]
    if len(series) != 1:
        return "", ""
    contrast, why = series_contrast(series[0])
    return contrast, "its headers" + ("" if why == "by its name" else f" ({why})")


def other_contrast(image: Path, said: str, wanted: str) -> str:
    """Why ``image`` is not taken where scans of ``wanted`` are; empty when it may be.

    ``said``: its contrast where a manifest or the user says it; it is then believed.
    """
    found, by = (said, "what was said of it") if said else told_contrast(image)
    if not found or standard_contrast(wanted) in (*_ANY, standard_contrast(found)):
        return ""
    return f"expected a scan of contrast {wanted}, found {standard_contrast(found)} by {by}"
