"""Ranks among healthy values: p-values, cut-offs, refused percentiles, marks of one scan's slices.

The p-value of a value v is (1 + W(v)) / (N + 1), W(v) the weight of the healthy values that are at
least v and N that of all. With weights of 1 this is the split-conformal p-value (Vovk, Gammerman
and Shafer 2005); where each subject's slices share a weight of 1 it is the hierarchical one of Lee,
Barber and Willett (2023): of a slice drawn at random from a new subject, exchangeable with the
healthy ones, it is at most α with probability at most α.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from twinvae.errors import CalibrationError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Unit = Literal["slice", "subject"]

METHOD: Literal["linear"] = "linear"
"""Interpolation between order statistics, as NumPy names it: with n sorted values counted from 0,
the p-th percentile stands at (n − 1) p / 100."""
_TINY = 1e-9  # weights of 1 / n do not add up to whole numbers exactly
_TAIL, _BODY = 100, 100  # values a table of p-values keeps: the highest, and others spread evenly


def weights(subject: IntArray, unit: Unit) -> tuple[FloatArray, float]:
    """Each slice's weight, (n,), and their sum: the number of observations.

    Counting slices every weight is 1; counting subjects, a subject's slices share a weight of 1.
    """
    if unit == "slice":
        return np.ones(len(subject)), float(len(subject))
    _, inverse, counts = np.unique(subject, return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse], float(len(counts))


def needed_count(percentile: float, *, conformal: bool = False) -> int:
    """How many observations the ``percentile``, in (0, 100), needs at least.

    100 / (100 − p), up: with fewer, the percentile lies between the two highest values and says
    little about a share of (100 − p) % of the healthy. A conformal threshold needs one less:
    N observations give no p-value below 1 / (N + 1).
    """
    return math.ceil(round(100.0 / (100.0 - percentile), 6)) - conformal


def highest_supported(count: int, *, conformal: bool = False) -> float:
    """The highest percentile that ``count`` observations support, or 0; two decimals, down."""
    if count < 2:
        return 0.0
    return math.floor((100.0 - 100.0 / (count + conformal)) * 100.0 + 1e-6) / 100.0


def require_supported(percentile: float, count: int, what: str, *, conformal: bool = False) -> None:
    """Raise ``CalibrationError`` when ``count`` of ``what`` cannot support the ``percentile``."""
    needed = max(needed_count(percentile, conformal=conformal), 2)
    if count >= needed:
        return
    highest = highest_supported(count, conformal=conformal)
    advice = f"the highest they support is {highest:g}" if highest else "they support none"
    raise CalibrationError(
        f"percentile {percentile:g} needs at least {needed} {what}, found {count}; {advice}"
    )


def percentile_cutoffs(
    values: FloatArray, weight: FloatArray, percentiles: Sequence[float]
) -> FloatArray:
    """Percentiles of ``values`` (n,); infinite when there are none.

    Interpolated as the paper does when all weights are 1, else the smallest value that at least
    p % of the weight does not exceed.
    """
    if not len(values):
        return np.full(len(percentiles), np.inf)
    if (weight == 1).all():
        return np.asarray(np.percentile(values, percentiles, method=METHOD), dtype=np.float64)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order]) / weight.sum()
    places = np.searchsorted(below, np.asarray(percentiles) / 100.0 - _TINY)
    return values[order][np.minimum(places, len(values) - 1)]


def conformal_cutoffs(
    values: FloatArray, weight: FloatArray, percentiles: Sequence[float]
) -> FloatArray:
    """The lowest values whose p-value is at most 1 − p / 100; infinite when there is none.

    The next floating-point number above a healthy value, so that ties with it are not called.
    """
    at, reached = _from_the_top(values, weight)
    p_values = (1.0 + reached) / (weight.sum() + 1.0)
    alphas = 1.0 - np.asarray(percentiles, dtype=np.float64) / 100.0
    least = 1.0 / (weight.sum() + 1.0)
    places = np.searchsorted(p_values, alphas + _TINY, side="right")  # first with p > α
    found = [
        np.nextafter(at[place], np.inf) if len(at) and least <= alpha + _TINY else np.inf
        for place, alpha in zip(places, alphas, strict=True)
    ]
    return np.array(found, dtype=np.float64)


@dataclass(frozen=True)
class Ranks:
    """Healthy values and the p-values between them: a step function, kept readable.

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
        at, reached = _from_the_top(values, weight)
        chosen = _worth_keeping(at, keep)
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


def _from_the_top(values: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distinct values, falling, and the weight of all that are at least as large."""
    at, inverse = np.unique(values, return_inverse=True)
    mass = np.bincount(inverse, weights=weight, minlength=len(at))
    return at[::-1], np.cumsum(mass[::-1])


def _worth_keeping(at: FloatArray, keep: FloatArray | None) -> Any:
    """Places of the highest values, of others spread evenly, of the last and of ``keep``."""
    if len(at) <= _TAIL + _BODY:
        return np.arange(len(at))
    spread = np.linspace(_TAIL, len(at) - 1, _BODY).round().astype(np.int64)
    special = np.flatnonzero(np.isin(at, keep)) if keep is not None else np.empty(0, np.int64)
    return np.unique(np.concatenate([np.arange(_TAIL), spread, special]))


def discoveries(p_values: FloatArray, level: float, method: Literal["bh", "by"]) -> BoolArray:
    """Slices marked at false discovery rate ``level`` in (0, 1), from p-values (n,) of one scan.

    ``bh``, Benjamini and Hochberg (1995): holds for independent or positively dependent p-values.
    Conformal p-values of *independent* slices are so (Bates et al. 2023), but neighbouring slices
    of a head are not independent; positive dependence of that kind is plausible, not proven. In
    a scan without tumour every mark is false: the rate is then how often anything is marked.
    ``by``, Benjamini and Yekutieli (2001): holds under any dependence, at the price of a factor
    of about log n.
    """
    order, rank = np.argsort(p_values, kind="stable"), np.arange(1, len(p_values) + 1)
    # Adjusted p-values: the lowest level at which each would be marked.
    adjusted = p_values[order] * (len(p_values) / rank)
    if method == "by":
        adjusted = adjusted * (1.0 / rank).sum()
    marked = np.zeros(len(p_values), dtype=bool)
    marked[order] = np.minimum.accumulate(adjusted[::-1])[::-1].clip(max=1) <= level
    return marked
