"""From a map to one number a slice: a tumour is local, a sum over all pixels is not.

Each aggregator takes the batch and a map, float32 (n, 1, H, W), larger = more abnormal, looks
inside the brain only, and returns (n,); 0 for slices without brain and for maps that are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from twinvae.scoring.batch import SliceBatch

_EIGHT = np.ones((3, 3), bool)  # pixels that touch at a corner belong together


@dataclass(frozen=True)
class Aggregator:
    """One way to see a map as a number; the score's name ends in ``_name``."""

    summary: str
    compute: Callable[[SliceBatch, Tensor], Tensor]


def brain_mean(batch: SliceBatch, image: Tensor) -> Tensor:
    """Mean over the brain: the sum, restricted to the brain and divided by its area."""
    return batch.brain_mean(image)


def local_maximum(batch: SliceBatch, image: Tensor) -> Tensor:
    """Max over the brain of G * m, with m zero outside the brain's core: a filter for blobs.

    The core is the brain without its rim (``scoring.rim_mm``), by default all of it.
    """
    return batch.brain_max(batch.smooth(image * batch.core))


def top_mean(batch: SliceBatch, image: Tensor) -> Tensor:
    """Mean of the ⌈share · brain pixels⌉ highest values in the brain (``scoring.top_share``)."""
    size = batch.brain.flatten(1).sum(1)
    count = (batch.options.top_share * size).ceil().long().clamp(min=1)
    values = image.masked_fill(~batch.brain, -torch.inf).flatten(1).sort(1, descending=True).values
    rank = torch.arange(values.shape[1], device=values.device)
    taken = (rank < count[:, None]) & (rank < size[:, None])
    return torch.where(taken, values, 0.0).sum(1) / count


def heaviest_region(batch: SliceBatch, image: Tensor) -> Tensor:
    """Max over connected regions of Σ (m − t) · pixel area, in units of m times cm².

    Regions: brain pixels above t, the ``scoring.region_quantile`` of the slice's own brain, that
    touch at a side or corner. Noise leaves many small ones, a lesion one large and high one.
    """
    pixels = image.float().cpu().numpy()[:, 0].astype(np.float64)
    brains = batch.brain.cpu().numpy()[:, 0]
    quantile = batch.options.region_quantile
    found = [_heaviest(m, b, quantile) for m, b in zip(pixels, brains, strict=True)]
    cm2 = (batch.pixel_mm / 10).square()
    return torch.tensor(found, dtype=torch.float32, device=image.device) * cm2


def _heaviest(image: NDArray[np.float64], brain: NDArray[np.bool_], quantile: float) -> float:
    """Largest sum of the excess over the brain's quantile in one region, of one slice (H, W)."""
    if not brain.any():
        return 0.0
    excess = np.where(brain, image - np.quantile(image[brain], quantile), 0.0)
    labels, count = ndimage.label(excess > 0, structure=_EIGHT)
    if not count:
        return 0.0
    return float(np.bincount(labels.ravel(), weights=np.maximum(excess, 0).ravel())[1:].max())


AGGREGATORS: dict[str, Aggregator] = {
    "brain": Aggregator("mean over the brain of", brain_mean),
    "local": Aggregator("maximum over the brain, smoothed (scoring.local_fwhm_mm), of",
                        local_maximum),
    "top": Aggregator("mean of the highest values in the brain (scoring.top_share) of", top_mean),
    "region": Aggregator("heaviest connected region (scoring.region_quantile) of",
                         heaviest_region),
}  # fmt: skip
