"""Results of an earlier call: whether they are what would be made now, and read back as they were.

``made_from.json`` beside a verdict holds a fingerprint of everything it rests on: the scans and
masks by size and time, the bundle by its content, the options that matter, twinvae's own code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae.cohort.manifest import read_strings
from twinvae.decision import ScanVerdict
from twinvae.decision.domain import Outside
from twinvae.detection.place import MADE_FROM, Place
from twinvae.detection.verdict import Judgement
from twinvae.errors import DataError
from twinvae.files import checksum, digest, file_state, read_json, write_json
from twinvae.imaging import ScanFiles
from twinvae.provenance import source_digest

_CODE = ("decision", "detection", "dicom", "imaging", "models", "reporting", "scoring")
_READ_BACK = ("verdict.json", "slices.tsv")


def fingerprint(made_by: Mapping[str, Any], scans: Iterable[tuple[ScanFiles, str | None]]) -> str:
    """Of what results rest on: ``made_by``, bundle and options, and the scans as they are now.

    ``scans``: each with how its brain is found where it has no mask.
    """
    states = []
    for scan, stripping in scans:
        paths = [path for path in (scan.image, scan.brain_mask) if path is not None]
        places = [(str(path.absolute()), file_state(path)) for path in paths]
        states.append([places, scan.trust_grid and scan.brain_mask is not None, stripping])
    return digest([source_digest(_CODE), dict(made_by), states])


def write_made_from(
    room: Path,
    key: str | None,
    made_by: Mapping[str, Any],
    said: Iterable[str],
    summary: Mapping[str, Any],
) -> None:
    """Write ``made_from.json``, the last file of a folder of results.

    ``key``: the fingerprint; None for results that a later call must not keep. ``said``: what was
    said aloud of them. ``summary``: their row of the summary.
    """
    read_back = sorted(path for name in _READ_BACK for path in room.rglob(name))
    files = {path.relative_to(room).as_posix(): checksum(path) for path in read_back}
    about = {"said": list(said), "summary": dict(summary), "files": files}
    write_json(room / MADE_FROM, {"fingerprint": key, **made_by, **about})


def made_from(place: Place) -> dict[str, Any]:
    """Content of ``made_from.json``; empty when there is none or it cannot be read."""
    try:
        found = read_json(place.path(MADE_FROM))
    except (DataError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def may_be_kept(place: Place, key: str, *, force: bool) -> bool:
    """Whether ``place`` holds whole, unedited results of this very fingerprint.

    ``force`` matters to scans out of domain alone.
    """
    try:
        return _is_whole(place, key, force=force)
    except (DataError, OSError):  # another process is replacing them
        return False


def _is_whole(place: Place, key: str, *, force: bool) -> bool:
    found, files = made_from(place), place.own_files()
    if found.get("fingerprint") != key or not files or not all(file.is_file() for file in files):
        return False
    if any(checksum(place.path(role)) != known for role, known in found["files"].items()):
        return False
    verdicts = (read_json(place.path(role)) for role in found["files"] if role.endswith(".json"))
    return found.get("force") == force or not any(map(_is_outside, verdicts))


def read_judgement(
    place: Place, part: str = "", outside: tuple[Outside, ...] | None = None
) -> Judgement:
    """A judgement from its ``verdict.json`` and ``slices.tsv``.

    ``part``: empty, or the contrast of a patient with a slash. ``outside``: where verdict.json does
    not say it, as that of several contrasts.
    """
    said = read_json(place.path(f"{part}verdict.json"))
    table = read_strings(place.path(f"{part}slices.tsv"), "\t").replace("n/a", "").apply(_typed)
    verdict = None
    if said["abnormal"] is not None:
        verdict = ScanVerdict(**{each.name: said[each.name] for each in fields(ScanVerdict)})
    if outside is None:
        names = [each.name for each in fields(Outside)]
        found = said["domain"]["outside"]
        outside = tuple(Outside(**{name: one[name] for name in names}) for one in found)
    return Judgement(verdict, outside, table)


def _typed(column: pd.Series[str]) -> pd.Series[Any]:
    """A column of slices.tsv as it was before it was written, to the last bit."""
    if set(column) <= {"True", "False", ""}:
        values = [{"True": True, "False": False}.get(cell, pd.NA) for cell in column]
        return pd.Series(values, column.index, "boolean" if "" in set(column) else "bool")
    for number in (int, float):
        with suppress(ValueError):
            return pd.Series([number(cell) for cell in column], index=column.index)
    return column


def _is_outside(said: Mapping[str, Any]) -> bool:
    return bool(said.get("domain", {}).get("outside"))
