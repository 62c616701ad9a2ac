"""Which of some scans are which patient's, and of which contrast, by the names of the files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinvae.config.contrast import standard_contrast
from twinvae.errors import ConfigError
from twinvae.files import file_and_volume

ENHANCED = "T1gd"
"""T1w with a contrast agent, which shows other things than T1w."""
_GIVEN = re.compile(r"(?:(?P<patient>[^=:/\\]+):)?(?P<contrast>[A-Za-z0-9_-]+)=(?P<file>.+)")
_ENDING = re.compile(r"(\.nii|\.mha|\.mhd|\.nrrd|\.mgz|\.dcm)?(\.gz)?$", re.IGNORECASE)
_WORDS = re.compile(r"[^-_. ]+")
_KNOWN = ("T1w", "T2w", "FLAIR", "PDw", ENHANCED)
_MEANT = {ENHANCED: "t1", "PDw": "pdw"}
"""What a name must hold to say these: `gd`, `post` and `pd` stand for other things, too."""
_AGENT = frozenset({"ce", "gd", "gado", "gadolinium", "postcontrast", "enhanced"})
_MASKS = frozenset({"mask", "seg", "dseg", "probseg", "roi", "label", "lesion"})
_TOLD = "PATIENT:CONTRAST=FILE, as P1:FLAIR="


@dataclass(frozen=True)
class ContrastFile:
    """One scan of a patient."""

    patient: str
    """Subject, and session where there is one: what files of one patient have in common."""
    contrast: str
    """By its common name: T1w, T2w, FLAIR, …"""
    path: Path
    given: str
    """As the user wrote it."""

    @property
    def said(self) -> str:
        """The contrast where the user wrote it before the file; empty where its name told."""
        return "" if self.given == str(self.path) else self.contrast


def patients_of(
    given: Sequence[Path | str | ContrastFile], contrasts: Iterable[str]
) -> dict[str, dict[str, ContrastFile]]:
    """Patient → contrast → scan, patients in the order in which they were first named.

    ``given``: files or folders whose names tell both (``sub-01_ses-1_T2w.nii.gz``,
    ``BraTS-GLI-00000-000-t2f.nii.gz``), ``CONTRAST=FILE``, or ``PATIENT:CONTRAST=FILE``; or of whom
    both are known already.
    ``contrasts``: those that may be. Names that differ in case only are one patient's. Raises
    ``ConfigError`` naming the file, and how to give it, for one that does not tell its contrast or
    has another, and for two of one patient and contrast.
    """
    allowed = tuple(contrasts)
    found: dict[str, dict[str, ContrastFile]] = {}
    names: dict[str, str] = {}
    for each in given:
        scan = each if isinstance(each, ContrastFile) else contrast_file(str(each))
        if scan.contrast not in allowed:
            raise ConfigError(_other(scan, allowed))
        patient = names.setdefault(scan.patient.casefold(), scan.patient)
        before = found.setdefault(patient, {}).setdefault(scan.contrast, scan)
        if before is not scan:
            raise ConfigError(
                f"{scan.given}: expected one {scan.contrast} scan of {patient}, found "
                f"{before.given} too; judge one of them, or tell them apart: {_TOLD}{scan.path}"
            )
    return found


def contrast_file(given: str) -> ContrastFile:
    """Patient and contrast of one file, as for ``patients_of``.

    >>> one = contrast_file("sub-01_ses-2_acq-3d_T2w.nii.gz")
    >>> one.patient, one.contrast
    ('sub-01_ses-2', 'T2w')
    """
    match, path = _told_apart(given), file_of(given)
    stem = _stem(path)
    patient, contrasts = _taken_apart(stem)
    if match is not None:
        contrasts = {standard_contrast(match["contrast"])}
        patient = match["patient"] or patient
    elif _MASKS & {word.lower() for word in _WORDS.findall(stem)}:
        raise ConfigError(f"{given}: expected a scan, found what is named like a mask")
    if ENHANCED in contrasts:
        contrasts = {ENHANCED}
    if len(contrasts) != 1:
        what = " and ".join(sorted(contrasts)) or "none"
        raise ConfigError(
            f"{given}: expected a name that tells one contrast, as P1_T2w.nii.gz, found {what}; "
            f"give it as FLAIR={path}, or as {_TOLD}{path}"
        )
    return ContrastFile(patient or _stem(path.absolute().parent), contrasts.pop(), path, given)


def named_contrast(image: Path) -> str:
    """The one contrast that a file's name says plainly, by its common name; empty if none.

    >>> named_contrast(Path("BraTS-GLI-00000-000-t2f.nii.gz")), named_contrast(Path("T1_T2w.nii"))
    ('FLAIR', '')
    >>> named_contrast(Path("sub-01_ce-gd_T1w.nii.gz")), named_contrast(Path("PD_postop.nii"))
    ('T1gd', '')
    """
    stem = _stem(image)
    _, contrasts = _taken_apart(stem)
    if ENHANCED in contrasts:
        contrasts -= {"T1w"}
    said = contrasts.pop() if len(contrasts) == 1 else ""
    return said if _MEANT.get(said, "") in stem.lower() else ""


def file_of(given: str) -> Path:
    """The file of ``FILE``, ``CONTRAST=FILE`` or ``PATIENT:CONTRAST=FILE``."""
    match = _told_apart(given)
    return Path(given if match is None else match["file"])


def _told_apart(given: str) -> re.Match[str] | None:
    """Patient, contrast and file; None for a file alone."""
    return None if Path(given).exists() else _GIVEN.fullmatch(given)


def _taken_apart(stem: str) -> tuple[str, set[str]]:
    """What a name says of the patient, perhaps nothing, and the contrasts that it names.

    In BIDS names these are `sub-` and `ses-`, and the suffix; else the words that are no contrast.
    """
    pieces = stem.split("_")
    entities = dict(piece.split("-", 1) for piece in pieces if "-" in piece)
    if pieces[0].startswith("sub-"):
        patient = "_".join(f"{k}-{entities[k]}" for k in ("sub", "ses") if k in entities)
        suffix = standard_contrast(pieces[-1])
        suffix = ENHANCED if "ce" in entities and suffix == "T1w" else suffix
        return patient, {suffix} & set(_KNOWN)
    words = list(_WORDS.finditer(stem))
    contrasts, taken = set(), []
    at = 0
    while at < len(words):
        two = stem[words[at].start() : words[min(at + 1, len(words) - 1)].end()]
        wide = at + 1 < len(words) and standard_contrast(two) in _KNOWN
        name = standard_contrast(two if wide else words[at][0])
        if name in _KNOWN or words[at][0].lower() in _AGENT:
            contrasts.add(name if name in _KNOWN else ENHANCED)
            taken.append((words[at].start(), words[at + wide].end()))
        at += 1 + wide
    kept = stem
    for start, end in reversed(taken):
        kept = kept[:start].rstrip("-_. ") + kept[end:]
    return kept.strip("-_. "), contrasts


def _stem(path: Path) -> str:
    file, volume = file_and_volume(path)
    return _ENDING.sub("", file.name) + ("" if volume is None else f"_{volume}")


def _other(scan: ContrastFile, allowed: Sequence[str]) -> str:
    if scan.contrast == ENHANCED:
        return (
            f"{scan.given}: found a scan with a contrast agent, which the bundle was not made for; "
            f"leave it out (if there was none: {scan.patient}:T1w={scan.path})"
        )
    return (
        f"{scan.given}: expected one of the bundle's contrasts {', '.join(allowed)}, found "
        f"{scan.contrast}; leave it out, or say which it is: FLAIR={scan.path}"
    )
