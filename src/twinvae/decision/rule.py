"""The contract of calibration rules: where a slice's threshold lies depending on the slice.

A rule sees healthy validation slices and gives a ``Shape``: how the score's level and spread depend
on brain area, and which slices are compared with which. All the rest is the same for every rule
(``fitted.py``): scores are standardised by the shape, thresholds and p-values are set among the
healthy slices of the same bin. A new rule is one file and one line in ``registry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinvae.config import DecisionConfig
from twinvae.decision.sample import FloatArray, Healthy, IntArray, Places, Unit


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
class Rule:
    """One way to set thresholds, and what it promises."""

    name: str
    summary: str
    """One line."""
    guarantee: str
    """What is promised of false positives, for the reader of a calibration."""
    assumes: str
    """Under which conditions."""
    source: str
    shape: Callable[[Healthy, DecisionConfig], Shape]
    """Learns how the threshold depends on the slice."""
    conformal: bool = False
    """Whether thresholds are conformal, else percentiles."""
    unit: Unit = "slice"
    """What counts as one observation unless the configuration says."""
    folds: int | None = None
    """Subjects are left out in so many groups, for a rule that takes long to fit; by default, and
    when there are fewer of them, one by one."""


def flat(healthy: Healthy, config: DecisionConfig) -> Shape:
    """The same threshold for every slice."""
    return Shape()


def equal_bins(values: FloatArray, bins: int) -> tuple[float, ...]:
    """The inner edges of ``bins`` bins of about equally many ``values``."""
    return tuple(np.unique(np.quantile(values, np.arange(1, bins) / bins)).tolist())


def _between(what: str, edges: tuple[float, ...], number: int) -> str:
    low = f"from {edges[number - 1]:.4g}" if number else ""
    high = f"below {edges[number]:.4g}" if number < len(edges) else ""
    return " ".join(part for part in (what, low, high) if part)
