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
from twinvae.detection.verdict import Judgement
from twinvae.errors import DataError
from twinvae.files import checksum, digest, file_state, read_json, write_json
from twinvae.imaging import ScanFiles
from twinvae.outputs import own_files
from twinvae.provenance import code_digest

MADE_FROM = "made_from.json"
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
    return digest([code_digest(_CODE), dict(made_by), states])


def write_made_from(
    room: Path, key: str | None, made_by: Mapping[str, Any], said: Iterable[str]
) -> None:
    """Write ``made_from.json``, the last file of a folder of results.

    ``key``: the fingerprint; None for results that a later call must not keep. ``said``: what was
    said aloud of them.
    """
    files = {str(path.relative_to(room)): checksum(path) for path in _read_back(room)}
    write_json(
        room / MADE_FROM, {"fingerprint": key, **made_by, "said": list(said), "files": files}
    )


def made_from(folder: Path) -> dict[str, Any]:
    """Content of ``made_from.json``; empty when there is none or it cannot be read."""
    try:
        found = read_json(folder / MADE_FROM)
    except (DataError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def may_be_kept(folder: Path, key: str, *, force: bool) -> bool:
    """Whether ``folder`` holds whole, unedited results of this very fingerprint.

    ``force`` matters to scans out of domain alone.
    """
    found, files = made_from(folder), own_files(folder)
    if found.get("fingerprint") != key or not files or not all(file.is_file() for file in files):
        return False
    sums = {str(path.relative_to(folder)): checksum(path) for path in _read_back(folder)}
    if sums != found.get("files"):
        return False
    return found.get("force") == force or not any(map(_is_outside, _verdicts(folder)))


def read_judgement(folder: Path, outside: tuple[Outside, ...] | None = None) -> Judgement:
    """A judgement from its ``verdict.json`` and ``slices.tsv``.

    ``outside``: where verdict.json does not say it, as that of several contrasts.
    """
    said = read_json(folder / "verdict.json")
    table = read_strings(folder / "slices.tsv", "\t").apply(_typed)
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


def _read_back(folder: Path) -> list[Path]:
    return sorted(path for name in _READ_BACK for path in folder.rglob(name))


def _verdicts(folder: Path) -> list[dict[str, Any]]:
    return [read_json(path) for path in folder.rglob("verdict.json")]


def _is_outside(said: Mapping[str, Any]) -> bool:
    return bool(said.get("domain", {}).get("outside"))
