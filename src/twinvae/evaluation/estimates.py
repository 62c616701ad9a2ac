"""A value with its interval, as plain data for JSON."""

from __future__ import annotations

import numpy as np

from twinvae.evaluation.resampling import interval
from twinvae.evaluation.three_aurocs import Resampled

Estimate = dict[str, float | None]
"""``value``, ``ci_low`` and ``ci_high``; None where undefined."""


def null(value: float) -> float | None:
    """None for NaN, which JSON does not know."""
    return None if np.isnan(value) else float(value)


def summary(found: Resampled, n_subjects: int) -> Estimate:
    """A metric with its interval over ``n_subjects`` independent subjects (see ``interval``)."""
    known = not np.isnan(found.value)
    low, high = interval(found.draws, n_subjects) if known else (np.nan, np.nan)
    return {"value": null(found.value), "ci_low": null(low), "ci_high": null(high)}
