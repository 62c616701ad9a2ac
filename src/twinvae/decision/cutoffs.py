"""Cut-offs from healthy values: percentiles and conformal ones, and percentiles that are refused.

Values count by weight: each slice for one observation, or each subject (``Ranks`` says why).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from twinvae.decision.thresholds import FloatArray, IntArray, from_the_top
from twinvae.errors import CalibrationError

Unit = Literal["slice", "subject"]

METHOD: Literal["linear"] = "linear"
"""Interpolation between order statistics, as NumPy names it: with n sorted values counted from 0,
the p-th percentile stands at (n − 1) p / 100."""
_TINY = 1e-9  # weights of 1 / n do not add up to whole numbers exactly


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
    places = np.searchsorted(below, [weight_limit(p) for p in percentiles])
    return values[order][np.minimum(places, len(values) - 1)]


def conformal_cutoffs(
    values: FloatArray, weight: FloatArray, percentiles: Sequence[float]
) -> FloatArray:
    """The lowest values whose p-value is at most 1 − p / 100; infinite when there is none.

    The next floating-point number above a healthy value, so that ties with it are not called.
    """
    at, reached = from_the_top(values, weight)
    p_values = (1.0 + reached) / (weight.sum() + 1.0)
    limits = [tail_limit(p) for p in percentiles]
    least = 1.0 / (weight.sum() + 1.0)
    places = np.searchsorted(p_values, limits, side="right")  # first with p > α
    found = [
        np.nextafter(at[place], np.inf) if len(at) and least <= limit else np.inf
        for place, limit in zip(places, limits, strict=True)
    ]
    return np.array(found, dtype=np.float64)


def weight_limit(percentile: float) -> float:
    """The share of the weight from which on a value is that percentile."""
    return percentile / 100.0 - _TINY


def tail_limit(percentile: float) -> float:
    """The highest p-value that a conformal threshold at that percentile calls abnormal."""
    return 1.0 - percentile / 100.0 + _TINY


def interpolated(ordered: Callable[[int], float], count: int, percentile: float) -> float:
    """The percentile of ``count`` values as ``METHOD`` says; ``ordered`` gives the k-th lowest.

    To the bit what NumPy gives.
    """
    place = (count - 1) * (percentile / 100.0)
    below = math.floor(place)
    low, high = ordered(below), ordered(min(below + 1, count - 1))
    share = place - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
