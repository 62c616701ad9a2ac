"""Scores in context: ``NAME_context`` is the score ``NAME`` among the other slices of its scan.

A tumour reaches through several slices, most false alarms do not: scores are smoothed along the
scan. Slices count by a Gaussian of their distance in relative position, so that neither the
slices' spacing nor a header that is wrong about it matters.

A scan that departs from the healthy ones everywhere, by its scanner, contrast or skull stripping,
does so in its calm slices too: a share of their level is taken off. Not all of it, for in a brain
with a large tumour they are not quite calm.

The rivals are offered in context too: it helps them as much.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.vocabulary import SCAN_KEY

CONTEXT_SUFFIX = "_context"
_FWHM_TO_SIGMA = (8 * np.log(2)) ** -0.5
_SCAN = [*SCAN_KEY, "role"]  # role: stand-ins share their patient's name
_CALM = 0.25  # the quantile of a scan's scores that stands for its slices without a tumour


def in_context(
    values: NDArray[np.float64], index: pd.DataFrame, fwhm: float, baseline: float = 0.0
) -> NDArray[np.float64]:
    """``values`` (n, scores) smoothed along each scan's slices, less a share of the scan's level.

    ``index``: one row a slice, columns as in slices/index.tsv. ``fwhm``: of the Gaussian, as a
    share of the brain's height. ``baseline``: the share of the lower quartile of the scan's
    smoothed scores that is taken off. A scan's slices must be given together.
    """
    out = np.empty_like(values)
    sigma = fwhm * _FWHM_TO_SIGMA
    position = index["position"].to_numpy(np.float64)
    for rows in index.groupby(_SCAN, dropna=False).indices.values():
        away = position[rows, None] - position[rows]
        weight = np.exp(-0.5 * (away / sigma) ** 2)
        smooth = weight @ values[rows] / weight.sum(1, keepdims=True)
        out[rows] = smooth - baseline * np.quantile(smooth, _CALM, axis=0)
    return out
