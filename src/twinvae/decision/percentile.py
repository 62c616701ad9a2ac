"""The paper's rule: a percentile of healthy validation scores, refused where data are too few.

Below n = 100 / (100 − p) values, the p-th percentile lies between the two highest of them and says
little about a share of (100 − p) % of the healthy; the rule refuses rather than extrapolates.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from twinvae.errors import CalibrationError

METHOD: Literal["linear"] = "linear"
"""Interpolation between order statistics, as NumPy names it: with n sorted values counted from 0,
the p-th percentile stands at (n − 1) p / 100."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def needed_count(percentile: float) -> int:
    """How many values the ``percentile``, in (0, 100), needs at least: 100 / (100 − p), up."""
    return math.ceil(round(100.0 / (100.0 - percentile), 6))


def highest_supported(count: int) -> float:
    """The highest percentile that ``count`` values support; 0 when there are fewer than two."""
    if count < 2:
        return 0.0
    return math.floor((100.0 - 100.0 / count) * 100.0 + 1e-6) / 100.0


def require_supported(percentile: float, count: int, what: str) -> None:
    """Raise ``CalibrationError`` when ``count`` of ``what`` cannot support the ``percentile``."""
    needed = max(needed_count(percentile), 2)
    if count >= needed:
        return
    highest = highest_supported(count)
    advice = f"the highest they support is {highest:g}" if highest else "they support none"
    raise CalibrationError(
        f"percentile {percentile:g} needs at least {needed} {what}, found {count}; {advice}"
    )


def thresholds(values: FloatArray, percentiles: tuple[float, ...]) -> FloatArray:
    """Percentiles down the rows of ``values`` (n, scores); returns (percentiles, scores)."""
    return np.asarray(np.percentile(values, percentiles, axis=0, method=METHOD), dtype=np.float64)


def cross_validated_fpr(
    values: FloatArray, subjects: IntArray, percentiles: tuple[float, ...]
) -> FloatArray:
    """False-positive rates to expect in new subjects: leave one subject out.

    Each subject's values are held against the thresholds set on all other subjects; the share at
    or above them, pooled over all values, estimates the rate in people the threshold has not seen.
    ``values``: (n, scores), ``subjects``: (n,) codes. Returns (percentiles, scores), NaN when
    there is only one subject.
    """
    codes = np.unique(subjects)
    if len(codes) < 2:
        return np.full((len(percentiles), values.shape[1]), np.nan)
    exceeding = np.zeros((len(percentiles), values.shape[1]))
    for code in codes:
        mine = subjects == code
        bounds = thresholds(values[~mine], percentiles)
        exceeding += (values[mine][None] >= bounds[:, None]).sum(axis=1)
    return exceeding / len(values)
