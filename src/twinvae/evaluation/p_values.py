"""Whether p-values are what they promise on slices without tumour: uniform, or larger."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_1samp, uniform

from twinvae.evaluation.estimates import Estimate, summary
from twinvae.evaluation.resampling import FloatArray, IntArray, ratio
from twinvae.evaluation.three_aurocs import Resampled

LEVELS = (0.01, 0.05)


def p_value_calibration(
    p_values: npt.ArrayLike, subject: IntArray, draws: FloatArray
) -> dict[str, Any]:
    """How p-values of slices without tumour are distributed.

    ``p_values``: (n,) in [0, 1]; ``subject``: (n,) codes; ``draws``: (resamples, subjects).
    Returns ``ks``, the largest distance between their distribution function and the uniform one
    (Kolmogorov–Smirnov; null without values), and ``rates``: for each of ``LEVELS`` the share of
    p-values at or below it, with its interval over subjects: the level itself is wanted, or less.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if np.isnan(values).any() or (values < 0).any() or (values > 1).any():
        raise ValueError("expected p-values between 0 and 1 and no NaN")
    sizes = np.bincount(subject, minlength=draws.shape[1])

    def rate(level: float) -> Estimate:
        small = np.bincount(subject[values <= level], minlength=draws.shape[1])
        share = float(ratio(small.sum(), sizes.sum()))
        found = Resampled(share, ratio(draws @ small, draws @ sizes))
        return summary(found, int((sizes > 0).sum()))

    return {
        "ks": float(ks_1samp(values, uniform.cdf).statistic) if len(values) else None,
        "rates": {f"{level:g}": rate(level) for level in LEVELS},
    }
