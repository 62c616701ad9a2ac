"""Scores in context: ``NAME_context`` is the score ``NAME`` smoothed along the scan's slices.

A tumour reaches through several slices, most false alarms do not. Slices count by a Gaussian of
their distance in relative position, so that neither the slices' spacing nor a header that is wrong
about it matters. The rivals are offered in context too: the neighbours help them as much.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CONTEXT_SUFFIX = "_context"
_FWHM_TO_SIGMA = (8 * np.log(2)) ** -0.5
_SCAN = ["source", "subject", "session", "role"]  # role: stand-ins share their patient's name


def in_context(
    values: NDArray[np.float64], index: pd.DataFrame, fwhm: float
) -> NDArray[np.float64]:
    """``values`` (n, scores) as means over each scan's slices, weighted by nearness.

    ``index``: one row a slice, columns as in slices/index.tsv. ``fwhm``: of the Gaussian, as a
    share of the brain's height. A scan's slices must be given together; a slice without others
    keeps its values.
    """
    out = np.empty_like(values)
    sigma = fwhm * _FWHM_TO_SIGMA
    position = index["position"].to_numpy(np.float64)
    for rows in index.groupby(_SCAN, dropna=False).indices.values():
        away = position[rows, None] - position[rows]
        weight = np.exp(-0.5 * (away / sigma) ** 2)
        out[rows] = weight @ values[rows] / weight.sum(1, keepdims=True)
    return out
