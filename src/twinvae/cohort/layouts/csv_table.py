"""A hand-written CSV or TSV: one row a scan, columns as in the manifest.

Only ``subject`` and ``image`` are required::

    subject,image,brain_mask,tumour_mask
    P001,scans/P001_t2.nii.gz,,masks/P001_seg.nii.gz
    P002,scans/P002_t2.nii.gz,,

Tabs, commas or semicolons separate the cells; paths are relative to the table. ``role`` and
``source`` come from the source's configuration where the table leaves them out, and ``split``
is drawn. Columns of other names are ignored, unless one looks like a misspelling of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from twinvae.cohort.manifest import COLUMNS, OPTIONAL, manifest_table, read_strings, resolve_paths
from twinvae.errors import DataError
from twinvae.vocabulary import Role

SUFFIXES = (".csv", ".tsv", ".txt")
_DELIMITERS = ("\t", ",", ";")


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether ``path`` is a table."""
    del files
    return path.is_file() and path.suffix.lower() in SUFFIXES


def index_table(path: Path, role: Role, source: str, contrast: str) -> pd.DataFrame:
    """Read the table at ``path`` into manifest rows; ``contrast`` is the table's own business."""
    del contrast
    table = read_strings(path, _delimiter(path))
    missing = [name for name in ("subject", "image") if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}: expected the columns subject and image, missing {' '.join(missing)}; "
            f"found {' '.join(table.columns)}"
        )
    _refuse_misspelt(path, list(table.columns))
    rows = manifest_table({str(k): str(v) for k, v in row.items()} for _, row in table.iterrows())
    rows.loc[rows["role"] == "", "role"] = role
    rows.loc[rows["source"] == "", "source"] = source
    return resolve_paths(rows, path.resolve().parent)


def _delimiter(path: Path) -> str:
    """The delimiter that the header line holds most often."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            header = lines.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table in UTF-8, found {error}") from None
    return max(_DELIMITERS, key=header.count)


def _refuse_misspelt(path: Path, names: list[str]) -> None:
    ours = (*COLUMNS, *OPTIONAL)
    absent = [name for name in ours if name not in names]
    for name in names:
        if name not in ours:
            near = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=0.85)
            if near:
                raise DataError(f"{path}: unknown column {name!r}: did you mean {near[0]!r}?")
