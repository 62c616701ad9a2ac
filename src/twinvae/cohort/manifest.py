"""The manifest: one row a scan, the only thing later stages know about where scans come from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from twinvae.config.contrast import standard_contrast
from twinvae.errors import DataError
from twinvae.files import file_and_volume, write_table
from twinvae.vocabulary import ROLES, SCAN_KEY, SPLITS, SUBJECT_KEY

COLUMNS = ("subject", "session", "source", "role", "image", "brain_mask", "tumour_mask", "split")
OPTIONAL = ("trust_grid", "contrast")
"""Columns that a manifest may leave out: `trust_grid`, yes where masks take the scan's affine, and
`contrast`, as BIDS writes it."""
PATH_COLUMNS = ("image", "brain_mask", "tumour_mask")
TRUST = ("yes", "no", "")


def read_manifest(path: Path, *, check_files: bool = True) -> pd.DataFrame:
    """Read and validate a manifest.tsv.

    Returns a table with exactly the columns ``COLUMNS`` and ``OPTIONAL``, all of them strings, an
    optional one that the file leaves out empty; paths are absolute
    (relative ones are taken from the manifest's folder) and empty where there is none. ``split``
    may be empty: ``assign_splits`` fills it. With ``check_files=False`` files may be missing;
    reading the scan will say so. Raises ``DataError``.
    """
    path = Path(path)
    table = read_strings(path, "\t")
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"{path}: expected the columns {' '.join(COLUMNS)}, missing {' '.join(missing)}"
        )
    table = _with_optional(table).loc[:, [*COLUMNS, *OPTIONAL]]
    table = resolve_paths(table, path.resolve().parent)
    validate_manifest(table, str(path), check_files=check_files)
    return table


def write_manifest(table: pd.DataFrame, path: Path) -> None:
    """Validate ``table`` and write it atomically as TSV, paths relative to the manifest.

    Optional columns are left out where no row uses them.
    """
    path = Path(path)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: cannot write a manifest without {' '.join(missing)}")
    validate_manifest(table, str(path), check_files=True)
    folder = path.resolve().parent
    table = _with_optional(table)
    used = [name for name in OPTIONAL if (table[name] != "").any()]
    out = table.loc[:, [*COLUMNS, *used]].copy()
    for name in PATH_COLUMNS:
        out[name] = [os.path.relpath(p, folder) if p else "" for p in out[name]]
    write_table(path, out)


def validate_manifest(table: pd.DataFrame, where: str, *, check_files: bool) -> None:
    """Raise ``DataError`` naming ``where`` and the first row that cannot be used."""
    if table.empty:
        raise DataError(f"{where}: expected at least one scan, found no rows")
    for name in ("subject", "source", "image"):
        _refuse(where, table, table[name] == "", f"expected a value for {name}, found none")
    _refuse_unknown(where, table, "role", ROLES)
    _refuse_unknown(where, table, "split", (*SPLITS, ""))
    if "trust_grid" in table:
        _refuse_unknown(where, table, "trust_grid", TRUST)
    repeated = table.duplicated([*SCAN_KEY, "image"])
    _refuse(where, table, repeated, "expected each scan once, found it again")
    _refuse_two_splits(where, table)
    if check_files:
        for name in PATH_COLUMNS:
            gone = pd.Series([bool(p) and not _exists(p) for p in table[name]], table.index)
            if gone.any():
                lost = table.loc[gone, name]
                raise DataError(
                    f"{where}: {name} {lost.iloc[0]}: no such file ({len(lost)} missing in all)"
                )


def require_contrast(table: pd.DataFrame, contrast: str, where: str) -> None:
    """Raise ``DataError`` naming the first row of ``where`` that says it is of another contrast.

    Rows that say nothing pass.
    """
    wanted = standard_contrast(contrast)
    said = table["contrast"]
    other = (said != "") & (said.map(standard_contrast) != wanted)
    if other.any():
        _refuse(where, table, other, f"expected contrast {contrast}, found {said[other].iloc[0]}")


def manifest_table(rows: Iterable[dict[str, str]]) -> pd.DataFrame:
    """A manifest from rows; columns that a row leaves out are empty."""
    table = pd.DataFrame(list(rows), columns=[*COLUMNS, *OPTIONAL], dtype=object)
    return table.fillna("").astype(str)


def read_strings(path: Path, delimiter: str) -> pd.DataFrame:
    """Read a delimited table with a header; every cell a stripped string, empty where absent."""
    try:
        cells = pd.read_csv(
            path, sep=delimiter, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: expected a table, found a folder") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: expected a table with a header, found an empty file") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a delimited table in UTF-8, found {error}") from None
    stripped = cells.fillna("").apply(lambda column: column.str.strip())
    names = [str(name) for name in stripped.iloc[0]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: expected each column once, found again {' '.join(twice)}")
    table: pd.DataFrame = stripped.iloc[1:].reset_index(drop=True)
    table.columns = pd.Index(names)
    return table


def resolve_paths(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The same table with image and mask paths absolute, taken from ``folder`` if relative."""
    table = table.copy()
    for name in PATH_COLUMNS:
        table[name] = [os.path.normpath(folder / p) if p else "" for p in table[name]]
    return table


def _with_optional(table: pd.DataFrame) -> pd.DataFrame:
    """With every optional column, empty where there was none."""
    return table.assign(**{name: "" for name in OPTIONAL if name not in table})


def _exists(path: str) -> bool:
    return file_and_volume(path)[0].exists()


def _refuse(where: str, table: pd.DataFrame, bad: pd.Series[bool], problem: str) -> None:
    if bad.any():
        row = table[bad].iloc[0]
        number = list(bad).index(True) + 1
        raise DataError(
            f"{where}: scan {number} (subject {row['subject'] or '?'}, "
            f"image {row['image'] or '?'}): {problem}"
        )


def _refuse_unknown(where: str, table: pd.DataFrame, name: str, known: tuple[str, ...]) -> None:
    bad = ~table[name].isin(known)
    if bad.any():
        expected = ", ".join(k or "(empty)" for k in known)
        _refuse(
            where,
            table,
            bad,
            f"expected {name} one of {expected}, found {table[name][bad].iloc[0]!r}",
        )


def _refuse_two_splits(where: str, table: pd.DataFrame) -> None:
    given = table[table["split"] != ""]
    for (source, subject), splits in given.groupby(list(SUBJECT_KEY), sort=False)["split"]:
        names = sorted(set(splits), key=SPLITS.index)
        if len(names) > 1:
            raise DataError(
                f"{where}: subject {subject} of source {source}: expected all its scans in one "
                f"split, found {' and '.join(names)}"
            )
