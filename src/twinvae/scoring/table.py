"""The table of scores: one row a slice, one column a score; read, checked and written here only.

Any table with these columns can be calibrated and evaluated, whoever computed its scores. It counts
pixels on each scan's own grid, and its column ``spacing_mm`` says which grid that is; without it
areas are pixels, which compare only among scans of one grid.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.errors import DataError
from twinvae.files import write_table
from twinvae.vocabulary import ROLES, SCAN_KEY, SPLITS, SUBJECT_KEY

KEY_COLUMNS = (
    "subject",
    "source",
    "role",
    "split",
    "slice",
    "position",
    "brain_px",
    "tumour_px",
)
"""The columns every table has, in the order they are written."""
SPACING = "spacing_mm"
"""In-plane spacing in mm of the grid that the row's pixels were counted on (the side of a square
pixel, else the root of its area). Runs write it; ``areas`` says what is lost without it."""
OPTIONAL_COLUMNS = (SPACING, "session", "grade")
"""Columns that are allowed, and are not scores: besides the spacing, the scan's session and the
tumour's grade."""
TRIVIAL_PREFIX = "trivial_"
"""Scores that no model was trained for begin with this."""
CONTEXT_SUFFIX = "_context"
"""Scores among the other slices of their scan end with this."""
PAPER_SCORE = "latent_l2"
"""The paper's score: L2 distance between the mixed model's encodings of x and of x_h."""
AreaUnit = Literal["mm2", "px"]
_LINES = 20_000  # of a table, held as text at a time


def score_columns(scores: pd.DataFrame) -> tuple[str, ...]:
    """Names of the score columns, in the table's order."""
    known = {*KEY_COLUMNS, *OPTIONAL_COLUMNS}
    return tuple(str(column) for column in scores.columns if column not in known)


def is_trivial(score: str) -> bool:
    """Whether ``score`` is one of the rivals that no model was trained for."""
    return score.startswith(TRIVIAL_PREFIX)


def scan_key(table: pd.DataFrame) -> list[str]:
    """Columns that name one scan in a scores table; sessions only where it tells them apart."""
    return [name for name in SCAN_KEY if name in table.columns]


def area_unit(table: pd.DataFrame) -> AreaUnit:
    """The unit of ``areas`` of a scores table: mm² where it has ``spacing_mm``, else pixels."""
    return "mm2" if SPACING in table.columns else "px"


def areas(table: pd.DataFrame, what: Literal["brain", "tumour"]) -> npt.NDArray[np.float64]:
    """Area of brain or tumour in each row (n,), in the unit of ``area_unit``; NaN where unknown."""
    pixels = table[f"{what}_px"].to_numpy(dtype=np.float64)
    return pixels if area_unit(table) == "px" else pixels * _pixel_mm2(table)


def pixel_range_mm2(table: pd.DataFrame) -> tuple[float, float] | None:
    """Smallest and largest area of a pixel among the rows' grids; None where that is not known."""
    if area_unit(table) == "px" or not len(table):
        return None
    found = _pixel_mm2(table)
    return float(found.min()), float(found.max())


def read_scores(path: Path) -> pd.DataFrame:
    """Read and check a scores table (tab-separated, UTF-8, one header line).

    Returns the key columns (``subject``, ``source``, ``role``, ``split`` as text; ``slice`` as
    int64; ``position``, ``brain_px`` and ``tumour_px`` as float64, ``tumour_px`` NaN where it is
    not known and 0 for healthy scans), the optional ones (``spacing_mm`` as float64 above 0, in
    every row or in none) and every further column as a float64 score. Raises ``DataError`` naming
    the file, the line (the header is line 1) and the column.
    """
    path = Path(path)
    try:
        parts = pd.read_csv(
            path,
            sep="\t",
            dtype=str,
            keep_default_na=False,
            na_filter=False,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
            encoding="utf-8",
            chunksize=_LINES,
        )
        raw = pd.concat([_lighter(part) for part in parts], ignore_index=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: expected a tab-separated table, found a folder") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a tab-separated table, found {error}") from None
    return check_scores(raw, str(path))


def _lighter(part: pd.DataFrame) -> pd.DataFrame:
    """Columns of scores as numbers, which take a fraction of the memory of their text.

    Where one is no finite number the column stays text, so that an error can quote it.
    """
    for name in score_columns(part):
        numbers = _as_numbers(part[name])
        if numbers is not None:
            part[name] = numbers
    return part


def check_scores(table: pd.DataFrame, where: str = "scores") -> pd.DataFrame:
    """A checked copy of ``table`` with the types ``read_scores`` promises.

    ``where`` names the table in errors; rows are counted as lines of its file, the header first.
    """
    missing = [column for column in KEY_COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"{where}: missing column {', '.join(missing)}")
    names = score_columns(table)
    if not names:
        raise DataError(f"{where}: expected at least one score column beside {list(KEY_COLUMNS)}")
    out = pd.DataFrame(index=pd.RangeIndex(len(table)))
    for column in ("subject", "source"):
        out[column] = _text(table[column], where, column)
    out["role"] = _text(table["role"], where, "role", ROLES)
    out["split"] = _text(table["split"], where, "split", SPLITS)
    for column in OPTIONAL_COLUMNS:
        if column in table.columns and column != SPACING:
            out[column] = table[column].astype(str).to_numpy()
    out["slice"] = _integers(table["slice"], where, "slice")
    out["position"] = _numbers(table["position"], where, "position")
    out["brain_px"] = _numbers(table["brain_px"], where, "brain_px", at_least_zero=True)
    out["tumour_px"] = _tumour_px(table, where)
    if SPACING in table.columns:
        out[SPACING] = _spacing_mm(table, where)
    scores = {name: _numbers(table[name], where, name) for name in names}
    _one_split_a_subject(out, where)
    return pd.concat([out, pd.DataFrame(scores, index=out.index)], axis=1)


def write_scores(path: Path, scores: pd.DataFrame) -> None:
    """Check ``scores`` and write them atomically; floats are written so that they read back same.

    Raises ``DataError`` when the table would not pass ``read_scores``.
    """
    table = check_scores(scores, str(path))
    for column in ("brain_px", "tumour_px"):
        values = table[column]
        if bool((values.dropna() % 1 == 0).all()):
            table[column] = values.astype("Int64")
    first = [*KEY_COLUMNS, *(c for c in (SPACING,) if c in table.columns)]
    order = [*first, *(c for c in table.columns if c not in first)]
    write_table(path, table[order])


def _pixel_mm2(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(n,)."""
    spacing: npt.NDArray[np.float64] = table[SPACING].to_numpy(dtype=np.float64)
    return spacing * spacing


def _fail(where: str, row: int, column: str, expected: str, found: object) -> DataError:
    shown = "nothing" if isinstance(found, str) and not found.strip() else repr(found)
    return DataError(
        f"{where}: line {row + 2}, column {column}: expected {expected}, found {shown}"
    )


def _text(
    values: pd.Series, where: str, column: str, allowed: tuple[str, ...] | None = None
) -> npt.NDArray[np.object_]:
    """Non-empty text, one of ``allowed`` when given."""
    codes, distinct = pd.factorize(values.to_numpy(dtype=object), use_na_sentinel=False)
    named = np.array(["" if pd.isna(value) else str(value) for value in distinct], dtype=object)
    text: npt.NDArray[np.object_] = named[codes]
    if all(value.strip() and (allowed is None or value in allowed) for value in named):
        return text
    for row, value in enumerate(text):
        if allowed is not None and value not in allowed:
            raise _fail(where, row, column, f"one of {', '.join(allowed)}", value)
        if not value.strip():
            raise _fail(where, row, column, "a name", value)
    return text


def _numbers(
    values: pd.Series,
    where: str,
    column: str,
    *,
    at_least_zero: bool = False,
    empty_is_nan: bool = False,
) -> npt.NDArray[np.float64]:
    """Finite numbers; where ``empty_is_nan``, an empty or NaN cell becomes NaN instead."""
    numbers = _as_numbers(values)
    if numbers is not None and not (at_least_zero and (numbers < 0).any()):
        return numbers
    raw = values.to_numpy(dtype=object)
    out = np.empty(len(raw), dtype=np.float64)
    for row, value in enumerate(raw):
        if empty_is_nan and (pd.isna(value) or (isinstance(value, str) and not value.strip())):
            out[row] = np.nan
            continue
        try:
            out[row] = float(value)
        except (TypeError, ValueError):
            raise _fail(where, row, column, "a number", value) from None
        if not np.isfinite(out[row]):
            raise _fail(where, row, column, "a finite number", value)
        if at_least_zero and out[row] < 0:
            raise _fail(where, row, column, "a number that is not negative", value)
    return out


def _as_numbers(values: pd.Series) -> npt.NDArray[np.float64] | None:
    """``values`` as Python's own conversion gives them; None unless all are finite numbers."""
    try:
        numbers = values.to_numpy(dtype=object).astype(np.float64)
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _integers(values: pd.Series, where: str, column: str) -> npt.NDArray[np.int64]:
    numbers = _numbers(values, where, column)
    broken = np.flatnonzero(numbers % 1 != 0)
    if broken.size:
        raise _fail(where, int(broken[0]), column, "a whole number", values.iloc[int(broken[0])])
    return numbers.astype(np.int64)


def _tumour_px(table: pd.DataFrame, where: str) -> npt.NDArray[np.float64]:
    """Tumour pixels; empty means unknown in mixed scans and none in healthy ones."""
    counts = _numbers(table["tumour_px"], where, "tumour_px", at_least_zero=True, empty_is_nan=True)
    healthy = (table["role"] == "healthy").to_numpy()
    wrong = np.flatnonzero(healthy & (counts > 0))
    if wrong.size:
        row = int(wrong[0])
        raise _fail(where, row, "tumour_px", "0 in a healthy scan", table["tumour_px"].iloc[row])
    counts[healthy] = 0.0
    return counts


def _spacing_mm(table: pd.DataFrame, where: str) -> npt.NDArray[np.float64]:
    spacing = _numbers(table[SPACING], where, SPACING)
    wrong = np.flatnonzero(spacing <= 0)
    if wrong.size:
        row = int(wrong[0])
        raise _fail(where, row, SPACING, "a number above 0", table[SPACING].iloc[row])
    return spacing


def _one_split_a_subject(table: pd.DataFrame, where: str) -> None:
    """Refuse a subject whose slices stand in more than one split."""
    pairs = table[[*SUBJECT_KEY, "split"]].drop_duplicates()
    twice = pairs[pairs.duplicated(list(SUBJECT_KEY))]
    if len(twice):
        row = int(twice.index[0])
        source, subject = table["source"].iloc[row], table["subject"].iloc[row]
        mine = (pairs["source"] == source) & (pairs["subject"] == subject)
        raise DataError(
            f"{where}: line {row + 2}, column split: expected subject {subject} of source {source} "
            f"in one split, found {', '.join(pairs.loc[mine, 'split'])}"
        )
