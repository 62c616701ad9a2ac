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

Of every study one series of the contrast is taken. What was taken and what was left, and why, is
printed; `--series PATTERN` overrides all rules.

Refused: what is not MR, localizers, derived images (PS3.3 C.7.6.1.1.2: value 1 of ImageType is
DERIVED, value 3 names MPR, projections, maps), diffusion, perfusion, angiograms and the like,
stacks that cannot be read as one volume, and thick slices that are not axial. Of the rest the
contrast is read from the words of SeriesDescription and ProtocolName, then from the sequence's
times in ms. Their bounds lie between the usual ranges of spin-echo imaging at 1.5 and 3 T
(T1w: TR below 1,000 or an inversion-prepared gradient echo; T2w: TE from 70; FLAIR: T2w with TI
from 1,500). Axial and 3-D series go before others, then the one with most slices, then the finest.

Attributes: DICOM PS3.3, C.7.1.1 patient, C.7.2.1 study, C.7.3.1 series, C.8.3.1 MR image.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twinvae.cohort.layouts.scans import Scan, scans_table
from twinvae.config.contrast import standard_contrast
from twinvae.dicom import Series, is_dicom, list_series
from twinvae.dicom.stack import Stack, measure
from twinvae.errors import DataError
from twinvae.progress import say
from twinvae.vocabulary import Role

_IMAGES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
_LOOKED_AT = 200  # files
_NOT_WANTED = {
    "localizer": r"local[iy]|scout|survey|plan\b|3.?plane|three.?plane",
    "diffusion": r"\bdwi|diff|\bdti|\badc\b|trace|\bfa\b|ep2d|\bivim",
    "perfusion": r"perf|\bdsc\b|\bdce\b|\basl\b|cbf|cbv|mtt|\bttp\b|tmax",
    "functional": r"bold|fmri|resting",
    "susceptibility": r"\bswi|t2.?star|t2\*|hemo|haemo|phase|\bmag\b|\bmip\b|minip",
    "angiogram": r"\btof\b|angio|\bmra\b|\bmrv\b|venog",
    "calibration": r"calib|asset|field.?map|\bb0\b|\bb1\b|shim",
    "spectroscopy": r"spectr|\bsvs\b|\bcsi\b",
    "map or report": r"subtr|\bsub\b|screen|report|\bmap\b|t[12].?map",
}
_IMAGE_TYPES = {
    "LOCALIZER": "localizer",
    "MPR": "MPR",
    "REFORMATTED": "MPR",
    "PROJECTION IMAGE": "projection",
    "MIN_IP": "projection",
    "MAX_IP": "projection",
    "MOSAIC": "mosaic",
    "ADC": "diffusion",
    "FA": "diffusion",
    "TRACEW": "diffusion",
    "DIFFUSION": "diffusion",
    "PHASE MAP": "phase",
    "P": "phase",
    "SUBTRACTION": "subtraction",
}
_NAMES = {
    "FLAIR": r"flair|dark.?fluid",
    "T1w": r"t1|mp.?rage|bravo|\btfl\b|\bspgr\b",
    "T2w": r"t2",
    "PDw": r"\bpd\b|proton",
}
_AGENT = r"gado|\bgd\b|gd$|\bce\b|post|\bkm\b|\+c\b|c\+|\+ ?gd|contrast|enhanced"
_NO_AGENT = {"", "no", "none", "n", "0", "without", "false"}
# AcquisitionContrast of enhanced images, PS3.3 C.8.13.3.1.1; where their times are, C.8.13.5
_ACQUISITION = {"T1": "T1w", "T2": "T2w", "FLUID_ATTENUATED": "FLAIR", "PROTON_DENSITY": "PDw"}
_TIMES = ("MREchoSequence", "MRTimingAndRelatedParametersSequence", "MRModifierSequence")
_THIN_MM = 2.0  # slices of a 3-D series are thinner than this …
_CUBIC = 2.0  # … and than this many times their pixels


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


@dataclass(frozen=True)
class Study:
    """One study: whose it is, its series, and the one to take of each contrast it has."""

    subject: str
    session: str
    members: Sequence[Candidate]
    chosen: Mapping[str, Candidate]
    images: Mapping[str, str]
    """Contrast → the chosen series as a path: its folder, with ``#UID`` where others lie there."""

    def choice(self, contrast: str) -> str:
        """What was taken of a contrast and why, and why the others were left."""
        taken = self.chosen.get(standard_contrast(contrast))
        left = _left(self.members, taken)
        if taken is None:
            return f"no series of {contrast}; left {left}"
        return f"took {taken.about} ({taken.why})" + (f"; left {left}" if left else "")


def find(path: Path, contrast: str, pattern: str | None = None) -> list[Scan]:
    """The chosen series of every study, and one of each other contrast it has; says which.

    Raises ``DataError`` when ``pattern`` matches no series.
    """
    broken: list[str] = []
    found = studies(path, broken, contrast, pattern)
    for reason in broken[:5]:
        say(f"unreadable: {reason}")
    if len(broken) > 5:
        say(f"unreadable: {len(broken) - 5} more files below {path}")
    for study in found:
        say(f"{study.subject} {study.session}".strip() + f": {study.choice(contrast)}")
    return [
        Scan(subject=study.subject, session=study.session, contrast=name, image=image)
        for study in found
        for name, image in study.images.items()
    ]


def studies(
    path: Path, broken: list[str], contrast: str = "", pattern: str | None = None
) -> list[Study]:
    """Every study at or below ``path``; why files cannot be read is added to ``broken``.

    With ``pattern`` the series that match it are of ``contrast``, and no others are taken; raises
    ``DataError`` when none does.
    """
    judge = partial(_candidate, contrast=contrast, pattern=pattern)
    candidates = [judge(series) for series in list_series(path.absolute(), broken)]
    if pattern is not None and not any(one.matched for one in candidates):
        raise DataError(
            f"{path}: expected a series whose description or UID matches {pattern!r}, found "
            + (", ".join(sorted({repr(one.description) for one in candidates})) or "none")
        )
    by_uid: dict[str, list[Candidate]] = {}
    for one in candidates:
        by_uid.setdefault(one.series.text("StudyInstanceUID"), []).append(one)
    sessions = _sessions(path, by_uid)
    folders = [one.folder for one in candidates]
    found = []
    for uid, members in by_uid.items():
        chosen = _best_series(members)
        images = {name: _image(one, alone=_alone(one, folders)) for name, one in chosen.items()}
        found.append(Study(*sessions[uid], members, chosen, images))
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


def _left(members: Sequence[Candidate], chosen: Candidate | None) -> str:
    rest = [one for one in members if one is not chosen]
    better = "fewer or coarser slices"
    same = chosen.contrast if chosen else ""
    return "; ".join(
        f"{one.about} ({one.refused or (better if one.contrast == same else one.contrast)})"
        for one in rest
    )


@dataclass(frozen=True)
class Candidate:
    """A series of a study, and what it was judged to be."""

    series: Series
    folder: Path
    """The nearest folder above all of its files."""
    contrast: str
    """T2w, T1w, T1gd, FLAIR, PDw or empty."""
    why: str
    """What says so."""
    refused: str
    """Why it is not to be taken; empty when it may be."""
    stack: Stack | None
    matched: bool = False
    """Whether the user asked for it by a pattern."""

    @property
    def description(self) -> str:
        """What people call it."""
        return self.series.text("SeriesDescription") or self.series.text("ProtocolName")

    @property
    def about(self) -> str:
        """One phrase for what is printed."""
        number = self.series.text("SeriesNumber")
        shape = f", {self.stack.about}" if self.stack else f", {self.series.images} images"
        return f"series {number} {self.description!r}{shape}".replace("  ", " ")


def _candidate(series: Series, contrast: str, pattern: str | None) -> Candidate:
    """Judge one series; with a pattern, those that match are of ``contrast`` and no others are."""
    folder = Path(os.path.commonpath([file.parent for file in series.files]))
    found, why = series_contrast(series)
    stack: Stack | None = None
    refused = _kind_refused(series)
    try:
        stack = measure(series)
    except DataError as error:
        refused = refused or str(error).removeprefix(f"{series.name}: ")
    if pattern is not None:
        if _matches(series, pattern):
            name = standard_contrast(contrast)
            return Candidate(series, folder, name, f"matches {pattern!r}", "", stack, matched=True)
        return Candidate(series, folder, "", "", f"does not match {pattern!r}", stack)
    if stack is not None and not refused and not _usable(stack):
        refused = f"{stack.plane} with thick slices"
    if not found and not refused:
        refused = "contrast not recognised"
    return Candidate(series, folder, found, why, refused, stack)


def _best_series(candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """For each contrast the series to take."""
    chosen: dict[str, Candidate] = {}
    for one in sorted((c for c in candidates if not c.refused), key=_rank):
        chosen.setdefault(one.contrast, one)
    return chosen


def _rank(one: Candidate) -> tuple[Any, ...]:
    number = one.series.text("SeriesNumber")
    order = int(number) if number.isdigit() else 0
    if one.stack is None:
        return (True, True, 0, 0.0, order, one.series.uid)
    fine = round(one.stack.pixel_mm, 3)
    return (False, not _usable(one.stack), -one.stack.slices, fine, order, one.series.uid)


def _usable(stack: Stack) -> bool:
    """Whether it is axial, or fine enough that axial slices may be cut from it."""
    thin = stack.spacing_mm <= min(_THIN_MM, _CUBIC * stack.pixel_mm)
    return stack.plane == "axial" or thin


def _matches(series: Series, pattern: str) -> bool:
    names = (series.text("SeriesDescription"), series.uid)
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in names)


def _words(series: Series) -> str:
    keywords = ("SeriesDescription", "ProtocolName")
    return " ".join(series.text(keyword) for keyword in keywords).lower().replace("_", " ")


def _kind_refused(series: Series) -> str:
    if series.text("Modality") != "MR":
        return f"{series.text('Modality') or 'no modality'}, not MR"
    values = [str(v).upper() for v in series.headers[0].get("ImageType") or ()]
    for value, kind in _IMAGE_TYPES.items():
        if value in values[2:]:
            return kind
    if values[:1] == ["DERIVED"]:
        return "derived"
    words = _words(series)
    for kind, pattern in _NOT_WANTED.items():
        if re.search(pattern, words):
            return kind
    return ""


def series_contrast(series: Series) -> tuple[str, str]:
    """The contrast and what says so; both empty when nothing does."""
    words = _words(series)
    by_name = next((name for name, pattern in _NAMES.items() if re.search(pattern, words)), "")
    by_time, said = _by_time(series)
    flair = "FLAIR" in (by_name, by_time)  # often called after its T2 weighting alone
    found = "FLAIR" if flair else by_name or by_time
    if found == "T1w" and _enhanced(series, words):
        found = "T1gd"
    return found, "by its name" if by_name and (found == by_name or not flair) else said


def _enhanced(series: Series, words: str) -> bool:
    """Whether a contrast agent was given."""
    agent = series.text("ContrastBolusAgent").lower()
    given = agent not in _NO_AGENT or bool(series.headers[0].get("ContrastBolusAgentSequence"))
    return given or bool(re.search(_AGENT, words))


def _by_time(series: Series) -> tuple[str, str]:
    """The contrast that the sequence's kind and times make, and the times."""
    said = series.text("AcquisitionContrast").upper()
    if said in _ACQUISITION:
        return _ACQUISITION[said], f"AcquisitionContrast {said}"
    echo = _time(series, "EchoTime", "EffectiveEchoTime")
    repetition = _time(series, "RepetitionTime")
    inversion = _time(series, "InversionTime", "InversionTimes")
    sequence = series.text("ScanningSequence").upper()
    sequence += {"SPIN": "SE", "GRADIENT": "GR"}.get(series.text("EchoPulseSequence").upper(), "")
    spin = "SE" in sequence and "EP" not in sequence
    gradient = "GR" in sequence and "SE" not in sequence
    prepared = 500 <= inversion <= 1300
    rules = {
        "FLAIR": echo >= 70 and inversion >= 1500,
        "T1w": (spin and repetition < 1000 and echo < 30)
        or (gradient and echo < 10 and (repetition < 50 or prepared)),
        "T2w": spin and repetition >= 2000 and echo >= 70,
        "PDw": spin and repetition >= 2000 and echo < 40,
    }
    times = f"TE {echo:.4g}, TR {repetition:.4g}" + (f", TI {inversion:.4g}" if inversion else "")
    known = echo > 0 and repetition > 0
    return next((name for name, holds in rules.items() if known and holds), ""), times


def _time(series: Series, *keywords: str) -> float:
    """A time in ms, of an enhanced image from its functional groups; 0 when there is none."""
    header = series.headers[0]
    groups = [
        *(header.get("SharedFunctionalGroupsSequence") or ()),
        *(header.get("PerFrameFunctionalGroupsSequence") or ())[:1],
    ]
    inner = [item for group in groups for name in _TIMES for item in group.get(name) or ()]
    for place in [header, *inner]:
        for keyword in keywords:
            try:
                value = float(np.ravel(place.get(keyword))[0])
            except (TypeError, ValueError):
                continue
            if np.isfinite(value):
                return value
    return 0.0
