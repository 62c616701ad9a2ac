"""From folders and tables to one manifest: recognise each source's layout and index it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from twinvae.cohort import bids, table
from twinvae.cohort.manifest import validate_manifest
from twinvae.cohort.split import assign_splits
from twinvae.config import Role, SourceConfig, SplitConfig
from twinvae.errors import DataError


@dataclass(frozen=True)
class Layout:
    """How one kind of source is recognised and read into manifest rows (paths absolute)."""

    expects: str
    recognises: Callable[[Path], bool]
    index: Callable[[Path, Role, str, str], pd.DataFrame]  # path, role, source, contrast


LAYOUTS: dict[str, Layout] = {  # `auto` takes the first that recognises the path
    "table": Layout("a .csv or .tsv file", table.recognises, table.index_table),
    "bids": Layout("a folder with sub-* folders", bids.recognises, bids.index_bids),
}


def index_sources(
    sources: Sequence[SourceConfig], contrast: str, split: SplitConfig
) -> pd.DataFrame:
    """Index every source, pool them, and split the subjects: a table for ``write_manifest``.

    ``contrast`` is written as in BIDS (T2w, T1w, FLAIR, …). Raises ``DataError`` when a source is
    missing or its layout not recognised, and for everything the manifest refuses.
    """
    names = _source_names(sources)
    parts = [_index(source, name, contrast) for source, name in zip(sources, names, strict=True)]
    if not parts:
        raise DataError("index: expected at least one source, found none")
    pooled = pd.concat(parts, ignore_index=True)
    validate_manifest(pooled, "index", check_files=True)
    return assign_splits(pooled, split)


def _index(source: SourceConfig, name: str, contrast: str) -> pd.DataFrame:
    layout = source.layout if source.layout != "auto" else _recognise(source.path)
    if not source.path.exists():
        raise DataError(f"{source.path}: no such file or folder")
    rows = LAYOUTS[layout].index(source.path, source.role, name, contrast)
    validate_manifest(rows, str(source.path), check_files=True)
    return rows


def _recognise(path: Path) -> str:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    for name, layout in LAYOUTS.items():
        if layout.recognises(path):
            return name
    known = "; ".join(f"{name}: {layout.expects}" for name, layout in LAYOUTS.items())
    raise DataError(f"{path}: layout not recognised; expected one of {known}")


def _source_names(sources: Sequence[SourceConfig]) -> list[str]:
    """Each source's name: as configured, else its folder's or file's."""
    names = [s.source or _default_name(s.path) for s in sources]
    for source, name in zip(sources, names, strict=True):
        if source.source is None and names.count(name) > 1:
            raise DataError(
                f"{source.path}: expected sources of different names, found {name!r} more than "
                f"once; say `source:` for each"
            )
    return names


def _default_name(path: Path) -> str:
    path = path.resolve()
    return path.stem if path.suffix.lower() in table.SUFFIXES else path.name
