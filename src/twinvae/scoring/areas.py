"""Areas of brain and tumour in mm²: a pixel is another area on every grid.

A scores table counts pixels on each scan's own grid, and its column ``spacing_mm`` says which grid
that is. Without that column areas are pixels, which compare only among scans of one grid.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.scoring.table import SPACING

AreaUnit = Literal["mm2", "px"]


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


def _pixel_mm2(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(n,)."""
    spacing: npt.NDArray[np.float64] = table[SPACING].to_numpy(dtype=np.float64)
    return spacing * spacing
