"""Average precision: precision at each positive slice, averaged; read it beside the prevalence.

Σ (R_n − R_{n−1}) P_n over the distinct scores from the highest down, without interpolation, as
scikit-learn defines it.
"""

from __future__ import annotations

import numpy as np

from twinvae.evaluation.resampling import BoolArray, FloatArray, ratio
from twinvae.evaluation.sweep import Swept


def average_precision(score: FloatArray, positive: BoolArray) -> float:
    """Average precision of ``score`` (n,); NaN unless both classes are there."""
    if not positive.any() or positive.all():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # of equal scores
    found = np.cumsum(positive[order])[ends]
    steps = np.diff(found, prepend=0)
    each = (steps * found / (ends + 1))[steps > 0]  # precision times positives gained
    return float(each.sum() / found[-1])


def resampled_average_precision(found: Swept) -> FloatArray:
    """Average precision in each resample of a sweep; NaN unless both classes are there."""
    out = ratio(found.precision, found.positives)
    out[found.negatives == 0] = np.nan
    return out
