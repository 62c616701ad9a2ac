"""Map intensities inside the brain to the unit interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from twinvae.config import PercentileScale
from twinvae.errors import DataError
from twinvae.imaging.scan import Working
from twinvae.imaging.steps.base import Fitted, apply_step


@apply_step.register
def percentile_scale(options: PercentileScale, scan: Working, fitted: Fitted) -> Working:
    """Map the scan's own percentiles to 0 and ``level``, clip to [0, 1]; outside stays zero."""
    del fitted
    brain = scan.brain.T  # slice by slice, as they lie in memory
    values = scan.image.T[brain]
    low, high = (float(v) for v in np.percentile(values, [options.low, options.high]))
    if not low < high:
        raise DataError(
            f"{scan.files.image}: expected contrast inside the brain, found {low:g} as percentile "
            f"{options.low:g} and {high:g} as percentile {options.high:g}"
        )
    values -= np.float32(low)
    values *= np.float32(options.level / (high - low))
    image = np.zeros(brain.shape, np.float32)
    image[brain] = np.clip(values, 0, 1, out=values)
    return replace(scan, image=image.T, scale=((low, 0.0), (high, options.level)))
