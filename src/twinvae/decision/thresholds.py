"""A slice's threshold and p-value: a cut-off and ranks that may follow brain area and position.

A score is standardised by its ``Shape`` (level and spread at the slice's brain area) and held
against the cut-off, and ranked among the healthy slices, of the slice's own bin. Kept as plain
values in ``calibration.json``; applying it needs NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.errors import CalibrationError
from twinvae.scoring.table import SPACING, area_unit, areas

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BRAIN_MM2 = "brain_mm2"
"""Brain area in mm²: ``brain_px`` times the square of ``spacing_mm``."""
BRAIN_PX = "brain_px"
_TAIL, _BODY = 100, 100  # values a table of p-values keeps: the highest, and others spread evenly


@dataclass(frozen=True)
class Places:
    """Where slices lie, all arrays (n,): what a threshold may depend on."""

    size: FloatArray
    """Brain area, in the unit that ``size_column`` names."""
    position: FloatArray
    """Relative position in the brain, 0 lowest to 1 highest."""

    def only(self, chosen: BoolArray | IntArray) -> Places:
        """The chosen ones."""
        return Places(self.size[chosen], self.position[chosen])

    def typical(self) -> Places:
        """One slice of median size and position."""
        return Places(np.median(self.size, keepdims=True), np.median(self.position, keepdims=True))


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


@dataclass(frozen=True)
class Curve:
    """A piecewise linear function of brain area; level beyond its ends."""

    size: FloatArray
    """Rising, (m,)."""
    value: FloatArray
    """(m,)."""

    def __call__(self, size: FloatArray) -> FloatArray:
        """Its values at ``size``."""
        return np.interp(size, self.size, self.value)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"size": self.size.tolist(), "value": self.value.tolist()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what ``to_json`` gave."""
        return cls(np.array(values["size"]), np.array(values["value"]))


@dataclass(frozen=True)
class Shape:
    """How the threshold depends on the slice; by default not at all."""

    level: Curve | None = None
    """Subtracted from the score."""
    spread: Curve | None = None
    """Then divides it; positive."""
    size_edges: tuple[float, ...] = ()
    """Brain areas at which one bin ends and the next, which holds the edge, begins; rising."""
    position_edges: tuple[float, ...] = ()
    """The same for the position in the brain."""

    @property
    def by_area(self) -> bool:
        """Whether the threshold depends on brain area at all."""
        curves = (self.level, self.spread)
        return bool(self.size_edges) or any(c is not None and len(c.size) > 1 for c in curves)

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return (len(self.size_edges) + 1) * (len(self.position_edges) + 1)

    def bin_of(self, places: Places) -> IntArray:
        """Number of each slice's bin, (n,)."""
        size = np.searchsorted(self.size_edges, places.size, side="right")
        position = np.searchsorted(self.position_edges, places.position, side="right")
        return np.asarray(size * (len(self.position_edges) + 1) + position, dtype=np.int64)

    def scale_at(self, places: Places) -> tuple[FloatArray, FloatArray]:
        """Level and spread at each slice, both (n,)."""
        level = np.zeros(len(places.size)) if self.level is None else self.level(places.size)
        spread = np.ones(len(places.size)) if self.spread is None else self.spread(places.size)
        return level, spread

    def standardised(self, score: FloatArray, places: Places) -> FloatArray:
        """(score − level) / spread, (n,)."""
        level, spread = self.scale_at(places)
        return (score - level) / spread

    def moved(self, shift: float, factor: float) -> Shape:
        """The shape for scores ``shift + factor · score``, factor positive."""
        level = self.level or Curve(np.zeros(1), np.zeros(1))
        spread = self.spread or Curve(np.zeros(1), np.ones(1))
        return Shape(
            Curve(level.size, shift + factor * level.value),
            Curve(spread.size, factor * spread.value),
            self.size_edges,
            self.position_edges,
        )

    def describe_bin(self, number: int) -> str:
        """Where the bin ``number`` lies, for messages; empty when there is only one."""
        if self.bins == 1:
            return ""
        size, position = divmod(number, len(self.position_edges) + 1)
        where = [_between("brain area", self.size_edges, size)]
        if self.position_edges:
            where.append(_between("position", self.position_edges, position))
        return f" in bin {number + 1} of {self.bins} ({', '.join(where)})"

    def to_json(self) -> dict[str, Any]:
        """As plain values; what does not apply is left out."""
        parts = {
            "level": self.level and self.level.to_json(),
            "spread": self.spread and self.spread.to_json(),
            "size_edges": list(self.size_edges),
            "position_edges": list(self.position_edges),
        }
        return {name: part for name, part in parts.items() if part}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what ``to_json`` gave."""
        return cls(
            Curve.from_json(values["level"]) if "level" in values else None,
            Curve.from_json(values["spread"]) if "spread" in values else None,
            tuple(values.get("size_edges", ())),
            tuple(values.get("position_edges", ())),
        )


@dataclass(frozen=True)
class Ranks:
    """Healthy values and the p-values between them: a step function, kept readable.

    The p-value of a value v is (1 + W(v)) / (N + 1), W(v) the weight of the healthy values that are
    at least v and N that of all. With weights of 1 this is the split-conformal p-value (Vovk,
    Gammerman and Shafer 2005); where each subject's slices share a weight of 1 it is the
    hierarchical one of Lee, Barber and Willett (2023): of a slice drawn at random from a new
    subject, exchangeable with the healthy ones, it is at most α with probability at most α.

    ``value``: falling. ``p_value[i]``: of what lies above ``value[i + 1]`` and not above
    ``value[i]``; 1 at the end. What lies above ``value[0]`` has ``least``. Where healthy values
    were left out to keep the table short, p-values are too large rather than too small.
    """

    value: FloatArray
    p_value: FloatArray
    least: float
    """The smallest p-value that can be reached, 1 / (N + 1)."""

    @classmethod
    def of(cls, values: FloatArray, weight: FloatArray, keep: FloatArray | None = None) -> Self:
        """From healthy ``values`` and their weights, both (n,); ``keep`` are never left out."""
        total = float(weight.sum())
        at, reached = from_the_top(values, weight)
        known = np.isin(at, keep) if keep is not None else np.zeros(len(at), bool)
        chosen = worth_keeping(len(at), np.flatnonzero(known))
        before = np.concatenate([[0.0], reached])[chosen]  # weight strictly above each kept value
        p_value = (1.0 + np.append(before[1:], total)) / (total + 1.0)
        return cls(at[chosen], p_value[: len(chosen)], 1.0 / (total + 1.0))

    def p_values(self, values: FloatArray) -> FloatArray:
        """P-values of ``values``, any shape; all 1 when there are no healthy values."""
        if not len(self.value):
            return np.ones(np.shape(values))
        # Falling order: how many kept values are at least as large.
        above = len(self.value) - np.searchsorted(self.value[::-1], values, side="left")
        return np.concatenate([[self.least], self.p_value])[above]

    def moved(self, shift: float, factor: float) -> Ranks:
        """The same ranks of ``shift + factor · value``, factor positive."""
        return Ranks(shift + factor * self.value, self.p_value, self.least)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "least_p_value": self.least,
            "value": self.value.tolist(),
            "p_value": self.p_value.tolist(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what ``to_json`` gave."""
        return cls(
            np.array(values["value"], dtype=np.float64),
            np.array(values["p_value"], dtype=np.float64),
            float(values["least_p_value"]),
        )


def from_the_top(values: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distinct values, falling, and the weight of all that are at least as large."""
    at, inverse = np.unique(values, return_inverse=True)
    mass = np.bincount(inverse, weights=weight, minlength=len(at))
    return at[::-1], np.cumsum(mass[::-1])


def worth_keeping(count: int, special: IntArray) -> IntArray:
    """Of ``count`` falling values, places of the highest, of others spread evenly and the last.

    ``special``: places that are kept in any case.
    """
    if count <= _TAIL + _BODY:
        return np.arange(count)
    spread = np.linspace(_TAIL, count - 1, _BODY).round().astype(np.int64)
    return np.unique(np.concatenate([np.arange(_TAIL), spread, special]))


@dataclass(frozen=True)
class FittedRule:
    """Thresholds of one score."""

    shape: Shape
    cutoffs: FloatArray
    """(percentiles, bins): standardised scores from here on are abnormal; infinite where nothing
    is."""
    ranks: tuple[Ranks, ...]
    """For each bin, the healthy standardised scores; empty when they were not kept."""

    def called(self, score: FloatArray, places: Places) -> BoolArray:
        """Which slices are abnormal, (percentiles, n)."""
        standardised = self.shape.standardised(score, places)
        found: BoolArray = standardised >= self.cutoffs[:, self.shape.bin_of(places)]
        return found

    def thresholds(self, places: Places) -> FloatArray:
        """The score from which each slice is abnormal, (percentiles, n)."""
        level, spread = self.shape.scale_at(places)
        return level + spread * self.cutoffs[:, self.shape.bin_of(places)]

    def p_values(self, score: FloatArray, places: Places) -> tuple[FloatArray, FloatArray]:
        """P-value of each slice and the smallest it could have had, both (n,).

        Raises ``CalibrationError`` when the calibration keeps no healthy scores.
        """
        if not self.ranks:
            raise CalibrationError(
                "calibration: expected healthy scores to rank among, found none; calibrate anew"
            )
        standardised, bins = self.shape.standardised(score, places), self.shape.bin_of(places)
        found, least = np.ones(len(score)), np.ones(len(score))
        for number in np.unique(bins):
            mine = bins == number
            found[mine] = self.ranks[number].p_values(standardised[mine])
            least[mine] = self.ranks[number].least
        return found, least

    def moved(self, shift: float, factor: float) -> FittedRule:
        """The rule for scores ``shift + factor · score``, factor positive."""
        return FittedRule(self.shape.moved(shift, factor), self.cutoffs, self.ranks)

    def to_json(self) -> dict[str, Any]:
        """As plain values; the cut-offs of an infinite threshold are null."""
        return {
            "shape": self.shape.to_json(),
            "cutoffs": [[c if np.isfinite(c) else None for c in row] for row in self.cutoffs],
            "healthy": [ranks.to_json() for ranks in self.ranks],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From the part ``slice`` of a score's calibration.

        With thresholds alone, they are the same for every slice.
        """
        bounds = [[entry["threshold"]] for entry in values["thresholds"]]
        cutoffs = np.array(values.get("cutoffs", bounds), dtype=np.float64)  # null becomes NaN
        return cls(
            Shape.from_json(values.get("shape", {})),
            np.where(np.isnan(cutoffs), np.inf, cutoffs),
            tuple(Ranks.from_json(part) for part in values.get("healthy", ())),
        )


def _between(what: str, edges: tuple[float, ...], number: int) -> str:
    low = f"from {edges[number - 1]:.4g}" if number else ""
    high = f"below {edges[number]:.4g}" if number < len(edges) else ""
    return " ".join(part for part in (what, low, high) if part)
