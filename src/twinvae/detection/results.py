"""The folder that ``detect`` fills: one folder a scan or patient, one row each in the summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape

from twinvae.cohort.manifest import read_strings
from twinvae.detection.privacy import Cover
from twinvae.errors import DataError
from twinvae.files import file_and_volume, write_table
from twinvae.outputs import (
    LOCK,
    MARKER,
    check_claimable,
    check_replaceable,
    claim,
    locked,
    remove,
)
from twinvae.progress import console
from twinvae.reporting.index_page import INDEX, check_index, write_index

SUMMARY, PAGE, THUMBNAIL = "summary.tsv", "report.html", "thumbnail.png"
RESERVED = (SUMMARY, INDEX, MARKER, LOCK)
"""Names in the folder that no scan's own folder can have."""


@contextmanager
def results(out: Path, places: Mapping[str, str], inputs: Sequence[Path]) -> Iterator[None]:
    """Claim ``out`` for this process; nothing is left there when nothing was written.

    ``places``: name of each folder below it → whose results it will hold (``identity``).
    """
    new = not out.exists()
    claim(out, "detections", inputs)
    try:
        with locked(out):
            check_results(out, places, inputs)
            yield
    finally:
        if new:
            remove(out, [])


def check_results(out: Path, places: Mapping[str, str], inputs: Sequence[Path]) -> None:
    """Raise ``OutputError`` when ``results`` could not be written there; nothing is touched."""
    check_claimable(out, "detections", inputs)
    check_index(out)
    for name, of in places.items():
        check_replaceable(out / name, "results of a scan", of=of, inputs=inputs)


def identity(image: Path) -> str:
    """Which scan it is, wherever the command was called from."""
    file, volume = file_and_volume(image)
    place = str(file.resolve()) if volume is None else f"{file.resolve()}#{volume}"
    return Cover.of(image).identity(place)


def add_to_summary(out: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Write the summary and its index: rows of earlier calls, less those judged anew, then these.

    Nothing is written when nothing was ``found``.
    """
    if not found:
        return
    path, rows = out / SUMMARY, pd.DataFrame(list(found))
    if path.is_file():
        earlier = read_strings(path, "\t")
        if list(earlier.columns) != list(rows.columns):
            raise DataError(
                f"{path}: expected the columns {' '.join(rows.columns)}, found "
                f"{' '.join(earlier.columns)}; move it away, then judge the scans again"
            )
        others = earlier[~earlier["name"].isin(rows["name"])]
        rows = pd.concat([others, rows.astype(object)], ignore_index=True)
    write_table(path, rows)
    write_index(out, read_strings(path, "\t"), PAGE, THUMBNAIL)


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """A table of slices without the columns that only cohorts have."""
    return table.drop(columns=["subject", "source", "role", "split", "tumour_px"])


def say_warnings(name: str, sentences: Iterable[str]) -> None:
    """Say aloud what qualifies a verdict."""
    for sentence in sentences:
        console.print(f"[bold red]{escape(name)}:[/] {escape(sentence)}", soft_wrap=True)
