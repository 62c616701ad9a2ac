"""From folders and tables to one manifest: index each source by its layout, pool, split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from twinvae.cohort.layouts import index_layout
from twinvae.cohort.layouts.table import SUFFIXES
from twinvae.cohort.manifest import validate_manifest
from twinvae.cohort.split import assign_splits
from twinvae.config import SourceConfig, SplitConfig
from twinvae.errors import DataError


def index_sources(
    sources: Sequence[SourceConfig],
    contrast: str,
    split: SplitConfig,
    before: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Index every source, pool them, and split the subjects: a table for ``write_manifest``.

    ``before``: a manifest to add to; its rows come first, and its splits stay and count.
    ``contrast`` is written as in BIDS (T2w, T1w, FLAIR, …). Raises ``DataError`` when a source is
    missing or its layout not recognised, and for everything the manifest refuses.
    """
    names = _source_names(sources)
    parts = [_index(source, name, contrast) for source, name in zip(sources, names, strict=True)]
    if not parts:
        raise DataError("index: expected at least one source, found none")
    pooled = pd.concat([*([] if before is None else [before]), *parts], ignore_index=True)
    validate_manifest(pooled, "index", check_files=True)
    return assign_splits(pooled, split)


def _index(source: SourceConfig, name: str, contrast: str) -> pd.DataFrame:
    rows = index_layout(source.path, source.layout, source.role, name, contrast, source.series)
    if source.trust_grid:
        rows.loc[rows["trust_grid"] == "", "trust_grid"] = "yes"
    validate_manifest(rows, str(source.path), check_files=True)
    return rows


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
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
