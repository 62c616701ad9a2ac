"""The folder that ``detect`` fills: each scan or patient has its place and a row of the summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from rich.markup import escape

from twinvae.cohort.manifest import read_strings
from twinvae.detection.bids_dataset import check_dataset, write_dataset
from twinvae.detection.kept import made_from
from twinvae.detection.place import PAGE, THUMBNAIL, Place, alone
from twinvae.detection.privacy import Cover
from twinvae.errors import DataError
from twinvae.files import file_and_volume, write_table
from twinvae.outputs import LOCK, MARKER, Kind, check_claimable, shared
from twinvae.progress import console
from twinvae.reporting.index_page import INDEX, check_index, write_index

SUMMARY = "summary.tsv"
RESERVED = (SUMMARY, INDEX, MARKER, LOCK)
"""Names in the folder that no scan's own folder can have."""


@contextmanager
def results(
    out: Path, places: Sequence[Place], inputs: Sequence[Path], dataset: Path | None = None
) -> Iterator[None]:
    """Claim ``out``; nothing is left there when nothing was written.

    ``places``: where results are to be written; ``dataset``: the BIDS data set whose derivatives
    they are. Other calls may fill ``out`` at the same time: it is usual to judge scans in jobs of
    their own.
    """
    with shared(out, _kind(dataset), inputs):
        with alone(out):
            check_results(out, places, inputs, dataset)
        yield


def check_results(
    out: Path, places: Sequence[Place], inputs: Sequence[Path], dataset: Path | None = None
) -> None:
    """Raise ``OutputError`` when ``results`` could not be written there; nothing is touched."""
    check_claimable(out, _kind(dataset), inputs)
    if dataset is None:
        check_index(out)
    else:
        check_dataset(out)
    for place in places:
        place.check(inputs)


def _kind(dataset: Path | None) -> Kind:
    return "detections" if dataset is None else "BIDS derivatives"


def identity(image: Path) -> str:
    """Which scan it is, wherever the command was called from."""
    file, volume = file_and_volume(image)
    place = str(file.resolve()) if volume is None else f"{file.resolve()}#{volume}"
    return Cover.of(image).identity(place)


def add_to_summary(out: Path, places: Sequence[Place], dataset: Path | None = None) -> None:
    """Write the summary and its index: rows of other calls, then those of what lies in ``places``.

    Nothing is written when there are none. Of derivatives of ``dataset`` everything that is said
    of all scans is written, from what lies there.
    """
    if dataset is not None and places:
        write_dataset(out, dataset)
    elif places:
        with alone(out):
            _add_rows(out, [made_from(place)["summary"] for place in places])


def _add_rows(out: Path, found: Sequence[Mapping[str, Any]]) -> None:
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
    write_index(
        out, read_strings(path, "\t"),
        lambda name: f"{name}/{PAGE}", lambda name: f"{name}/{THUMBNAIL}",
    )  # fmt: skip


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """A table of slices without the columns that only cohorts have."""
    return table.drop(columns=["subject", "source", "role", "split", "tumour_px"])


def say_warnings(name: str, sentences: Iterable[str]) -> None:
    """Say aloud what qualifies a verdict."""
    for sentence in sentences:
        console.print(f"[bold red]{escape(name)}:[/] {escape(sentence)}", soft_wrap=True)
