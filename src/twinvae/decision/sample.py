"""The healthy slices a rule learns from, and what one observation among them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.errors import CalibrationError
from twinvae.scoring.table import SPACING, area_unit, areas

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Unit = Literal["slice", "subject"]

BRAIN_MM2 = "brain_mm2"
"""Brain area in mm²: ``brain_px`` times the square of ``spacing_mm``."""
BRAIN_PX = "brain_px"


@dataclass(frozen=True)
class Places:
    """Where slices lie, all arrays (n,): what a threshold may depend on."""

    size: FloatArray
    """Brain area, in the unit that ``size_column`` names."""
    position: FloatArray
    """Relative position in the brain, 0 lowest to 1 highest."""

    def only(self, chosen: BoolArray) -> Places:
        """The chosen ones."""
        return Places(self.size[chosen], self.position[chosen])

    def typical(self) -> Places:
        """One slice of median size and position."""
        return Places(np.median(self.size, keepdims=True), np.median(self.position, keepdims=True))


@dataclass(frozen=True)
class Healthy:
    """Healthy validation slices with one score, all arrays (n,)."""

    score: FloatArray
    places: Places
    subject: IntArray
    """Code of the subject."""

    def only(self, chosen: BoolArray) -> Healthy:
        """The chosen ones."""
        return Healthy(self.score[chosen], self.places.only(chosen), self.subject[chosen])


def size_column(table: pd.DataFrame) -> str:
    """What tells a slice's brain area: ``brain_mm2``, or ``brain_px`` where grids are unknown."""
    return BRAIN_MM2 if area_unit(table) == "mm2" else BRAIN_PX


def places_of(table: pd.DataFrame, size: str) -> Places:
    """Sizes and positions of the rows of a scores table.

    ``size``: ``brain_mm2``, or a column of the table (``brain_px``; calibrations of earlier
    versions also ``trivial_brain_area``). Raises ``CalibrationError`` when the table lacks what
    thresholds depend on.
    """
    needed = SPACING if size == BRAIN_MM2 else size
    if needed not in table.columns:
        raise CalibrationError(
            f"scores: expected the column {needed}, on which the calibrated thresholds depend; "
            f"found {', '.join(map(str, table.columns))}"
        )
    area = areas(table, "brain") if size == BRAIN_MM2 else table[size].to_numpy(dtype=np.float64)
    return Places(area, table["position"].to_numpy(dtype=np.float64))


def weights(subject: IntArray, unit: Unit) -> tuple[FloatArray, float]:
    """Each slice's weight, (n,), and their sum: the number of observations.

    Counting slices every weight is 1; counting subjects, a subject's slices share a weight of 1.
    """
    if unit == "slice":
        return np.ones(len(subject)), float(len(subject))
    _, inverse, counts = np.unique(subject, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse], float(len(counts))


def level_and_spread(score: FloatArray) -> dict[str, float]:
    """The median, and the median distance from it of the values below it."""
    median = float(np.median(score))
    below = median - score[score < median]
    return {"median": median, "lower_spread": float(np.median(below)) if len(below) else 0.0}
