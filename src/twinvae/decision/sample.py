"""The healthy slices a rule learns from, and what one observation among them is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.errors import CalibrationError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Unit = Literal["slice", "subject"]

AREA_COLUMN = "trivial_brain_area"
"""Brain area in mm², where the table has it; pixels mean something else on every grid."""


@dataclass(frozen=True)
class Places:
    """Where slices lie, all arrays (n,): what a threshold may depend on."""

    size: FloatArray
    """Brain area, in the unit of the column ``size_column`` names."""
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
    """The column that tells a slice's brain area: mm² if there, else ``brain_px``."""
    return AREA_COLUMN if AREA_COLUMN in table.columns else "brain_px"


def places_of(table: pd.DataFrame, size: str) -> Places:
    """Sizes (from the column ``size``) and positions of the rows of a scores table.

    Raises ``CalibrationError`` when the table lacks the column that thresholds depend on.
    """
    if size not in table.columns:
        raise CalibrationError(
            f"scores: expected the column {size}, on which the calibrated thresholds depend; "
            f"found {', '.join(map(str, table.columns))}"
        )
    return Places(
        table[size].to_numpy(dtype=np.float64), table["position"].to_numpy(dtype=np.float64)
    )


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
