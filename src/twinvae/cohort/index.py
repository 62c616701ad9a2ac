"""From folders and tables to one manifest: index each source by its layout, pool, split.

Where no healthy source is at hand, tumour-free slices of patients stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from twinvae.cohort.layouts import index_layout
from twinvae.cohort.layouts.csv_table import SUFFIXES
from twinvae.cohort.manifest import require_contrast, validate_manifest
from twinvae.cohort.split import assign_splits
from twinvae.config import SourceConfig, SplitConfig
from twinvae.errors import DataError

TUMOUR_FREE = "-tumour-free"
"""Ends the name of a source of stand-ins."""


def index_sources(
    sources: Sequence[SourceConfig],
    contrast: str,
    split: SplitConfig,
    before: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Index every source, pool them, and split the subjects: a table for ``write_manifest``.

    ``before``: a manifest to add to; its rows come first, and its splits stay and count.
    ``contrast`` is written as in BIDS (T2w, T1w, FLAIR, …). Raises ``DataError`` when a source is
    missing or its layout not recognised, when a row says another contrast, and for everything the
    manifest refuses.
    """
    names = _source_names(sources)
    parts = [_index(source, name, contrast) for source, name in zip(sources, names, strict=True)]
    if not parts:
        raise DataError("index: expected at least one source, found none")
    pooled = pd.concat([*([] if before is None else [before]), *parts], ignore_index=True)
    validate_manifest(pooled, "index", check_files=True)
    return assign_splits(pooled, split)


def add_tumour_free(table: pd.DataFrame) -> pd.DataFrame:
    """The manifest with every mixed scan that has a tumour mask listed once more, as healthy.

    For where no healthy source is at hand: this uses tumour labels, and the stand-ins' source says
    so by its name in all tables.

    The second row has the source ``NAME-tumour-free``, role healthy and the same split, so that no
    patient is on both sides of it; ``prepare`` keeps its slices without tumour. Raises
    ``DataError`` when no mixed scan has a mask.
    """
    masked = table[(table["role"] == "mixed") & (table["tumour_mask"] != "")]
    if masked.empty:
        raise DataError(
            "cohort.tumour_free_as_healthy: expected mixed scans with tumour masks, found none"
        )
    twins = masked.assign(role="healthy", source=masked["source"] + TUMOUR_FREE)
    return pd.concat([table, twins], ignore_index=True)


def _index(source: SourceConfig, name: str, contrast: str) -> pd.DataFrame:
    rows = index_layout(source.path, source.layout, source.role, name, contrast, source.series)
    if source.trust_grid:
        rows.loc[rows["trust_grid"] == "", "trust_grid"] = "yes"
    if source.split is not None:
        rows.loc[rows["split"] == "", "split"] = source.split
    validate_manifest(rows, str(source.path), check_files=True)
    require_contrast(rows, contrast, str(source.path))
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
