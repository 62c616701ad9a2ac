"""Where no healthy source is at hand: tumour-free slices of patients, known by their masks.

This uses tumour labels. The stand-ins form a source of their own, whose name says so in all tables.
"""

from __future__ import annotations

import pandas as pd

from twinvae.errors import DataError

TUMOUR_FREE = "-tumour-free"


def add_tumour_free(table: pd.DataFrame) -> pd.DataFrame:
    """The manifest with every mixed scan that has a tumour mask listed once more, as healthy.

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
