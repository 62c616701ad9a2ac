"""Trivial rivals: what can be said of a slice with no network trained. A detector must beat them.

The z-score is how far each pixel is from what healthy training slices show there: a mean and a
standard deviation for every pixel at 21 relative positions. Saase, Wenz, Ganslandt, Groden & Maros
2020, Simple statistical methods for unsupervised brain anomaly detection on MRI are competitive to
deep learning methods (arXiv 2011.12735), whose baseline works voxel by voxel on registered scans.
Here slices are only centred on the brain, as the recipe leaves them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from twinvae.models import mirror
from twinvae.scoring.batch import SliceBatch, erode, gaussian_smooth, window_maximum
from twinvae.scoring.registry import Reference, local_maximum, score

_RIM_MM = 6.0  # the brain's rim is never symmetric to the pixel
_WINDOW_MM = 3.0  # how far the other half's anatomy may lie from where it is looked for
_OURS = "trivial rival: whoever claims a detector must beat it"
_PLACES = 21
"""Relative positions 0, 0.05, …, 1; a slice is held against the nearest."""
_WIDTH = 0.05  # standard deviation, in relative position, of the weights of slices around a place
_PRIOR = 0.05  # share of slices, see ``learn_pixels``
_LEAST = 1e-3  # standard deviation below which nothing is believed, in units of [0, 1]
_SAASE = "trivial rival: whoever claims a detector must beat it; Saase et al. 2020"


def learn_pixels(batches: Iterable[SliceBatch]) -> dict[str, NDArray[np.float64]]:
    """``mean`` and ``deviation`` (places, H, W) of the intensity of brain pixels.

    Slices count by a Gaussian of their distance from the place, which leaves no place empty. A
    pixel's statistics are those of the slices whose brain covers it and, with the weight of a
    share ``_PRIOR`` of all slices, of the whole brain at that place: pixels that healthy brains
    seldom cover are held against brain in general.
    """
    sums, weight = _sums(batches)
    count, first, second = sums / weight[:, None, None]
    total = count.sum((-2, -1), keepdim=True).clamp(min=torch.finfo(count.dtype).tiny)
    count = count + _PRIOR
    mean = (first + _PRIOR * first.sum((-2, -1), keepdim=True) / total) / count
    square = (second + _PRIOR * second.sum((-2, -1), keepdim=True) / total) / count
    deviation = (square - mean.square()).clamp(min=_LEAST**2).sqrt()
    return {"mean": mean.numpy(), "deviation": deviation.numpy()}


def _sums(batches: Iterable[SliceBatch]) -> tuple[Tensor, Tensor]:
    """Weighted sums of 1, x and x² over brain pixels, (3, places, H, W), and of the weights.

    In float64 on the CPU: the difference of two sums gives the variance, and weights get small.
    """
    places = torch.linspace(0, 1, _PLACES, dtype=torch.float64)
    sums, weight = torch.zeros(()), torch.zeros(_PLACES, dtype=torch.float64)
    for batch in batches:
        x, brain = batch.x.double().cpu()[:, 0], batch.brain.double().cpu()[:, 0]
        away = (places[:, None] - batch.position.double().cpu()) / _WIDTH
        weights = torch.exp(-0.5 * away.square())
        moments = torch.stack([brain, x * brain, x.square() * brain])
        sums = sums + torch.einsum("pn,mnhw->mphw", weights, moments)
        weight = weight + weights.sum(1)
    return sums, weight


HEALTHY_PIXELS = Reference("healthy_pixels", learn_pixels)


def z_map(batch: SliceBatch) -> Tensor:
    """(x − mean) / deviation of healthy slices at the same place, (n, 1, H, W); signed."""

    def compute(inner: SliceBatch) -> Tensor:
        learned = inner.fitted[HEALTHY_PIXELS.name]
        place = (inner.position.clamp(0, 1) * (_PLACES - 1)).round().long()
        mean, deviation = learned["mean"][place], learned["deviation"][place]
        return (inner.x - mean.unsqueeze(1)) / deviation.unsqueeze(1)

    return batch.once("z map", compute)


def smoothed_excess(batch: SliceBatch, sign: float) -> Tensor:
    """G * max(±z, 0) without the brain's rim (``scoring.rim_mm``), (n, 1, H, W)."""

    def compute(inner: SliceBatch) -> Tensor:
        return inner.smooth((sign * z_map(inner)).clamp(min=0) * inner.core)

    return batch.once(f"smoothed z {sign:+.0f}", compute)


def usual_deviation(batch: SliceBatch) -> Tensor:
    """Mean standard deviation of a pixel among healthy slices: one z in units of [0, 1]."""
    return batch.fitted[HEALTHY_PIXELS.name]["deviation"].mean()


@score(
    "trivial_zscore",
    "maximum over the brain of the smoothed positive z-score against healthy training slices",
    _SAASE,
    fit=HEALTHY_PIXELS,
)
def zscore(batch: SliceBatch) -> Tensor:
    """Max over the brain of G * max(z, 0), in standard deviations; 0 without brain."""
    return batch.brain_max(smoothed_excess(batch, 1.0))


@score(
    "trivial_zscore_mean",
    "mean over the brain of the absolute z-score against healthy training slices",
    _SAASE,
    fit=HEALTHY_PIXELS,
)
def zscore_mean(batch: SliceBatch) -> Tensor:
    """Mean over the brain of |z|, in standard deviations; 0 without brain."""
    return batch.brain_mean(z_map(batch).abs())


@score("trivial_position", "closeness to the middle of the brain along z", _OURS)
def position(batch: SliceBatch) -> Tensor:
    """−|position − ½|."""
    return -(batch.position - 0.5).abs()


@score("trivial_brain_area", "brain area of the slice in mm²", _OURS)
def brain_area(batch: SliceBatch) -> Tensor:
    """Area before the resize."""
    return batch.brain_mm2


@score("trivial_mean_intensity", "mean intensity over the brain", _OURS)
def mean_intensity(batch: SliceBatch) -> Tensor:
    """Sum over the brain by its size; 0 without brain."""
    return batch.brain_mean(batch.x)


@score("trivial_p99_intensity", "99th percentile of intensity over the brain", _OURS)
def p99_intensity(batch: SliceBatch) -> Tensor:
    """Linear interpolation between order statistics."""
    return _brain_quantile(batch, 0.99)


@score("trivial_hyperintense", "share of brain pixels brighter than 1.5 × the median", _OURS)
def hyperintense(batch: SliceBatch) -> Tensor:
    """Share in [0, 1]; the median is the slice's own."""
    bright = batch.x > 1.5 * _brain_quantile(batch, 0.5).view(-1, 1, 1, 1)
    return batch.brain_mean(bright)


@score("trivial_smoothed_max", "maximum over the brain of the smoothed intensity", _OURS)
def smoothed_max(batch: SliceBatch) -> Tensor:
    """The local score with nothing subtracted."""
    return local_maximum(batch, batch.x)


@score(
    "trivial_asymmetry",
    "maximum over the brain, rim eroded, of the smoothed difference from the mirror image",
    _OURS,
)
def asymmetry(batch: SliceBatch) -> Tensor:
    """Max of G * (x − mirror of x) about the midline of the slice's brain."""
    difference = batch.smooth((batch.x - mirror(batch.x, batch.brain)) * batch.brain)
    inside = erode(batch.brain, _RIM_MM, batch.pixel_mm)
    return batch.brain_max(difference, inside & mirror(inside.float(), batch.brain).bool())


def window_excess(batch: SliceBatch, sign: float) -> Tensor:
    """G * max(±g * x − the highest ±g * m within 3 mm, 0) where both halves are, (n, 1, H, W).

    m is the mirror image, g half as wide as ``scoring.local_fwhm_mm``, and G so wide that both
    together are as wide as that. Local means are compared, and the nearest that the other half
    offers: ventricles and sulci of unequal size are no excess.
    """

    def compute(inner: SliceBatch) -> Tensor:
        own, other = inner.once("local means", _local_means)
        reach = round(_WINDOW_MM / float(inner.pixel_mm[0]))
        best = window_maximum(sign * other, reach)
        excess = (sign * own - best).clamp(min=0) * _both_halves(inner)
        width = inner.options.local_fwhm_mm / inner.pixel_mm
        return gaussian_smooth(excess, width * 0.75**0.5) * inner.inside

    return batch.once(f"window excess {sign:+.0f}", compute)


def _local_means(batch: SliceBatch) -> Tensor:
    """G * x and g * m where both halves are, (2, n, 1, H, W); see ``window_excess``."""
    there = batch.inside * batch.mirrored
    width = batch.options.local_fwhm_mm / batch.pixel_mm / 2
    images = (batch.x, batch.mirror)
    return torch.stack([gaussian_smooth(image * there, width) for image in images])


def _asymmetry(batch: SliceBatch) -> Tensor:
    """G * (x − m) where both halves are, (n, 1, H, W)."""
    return batch.smooth((batch.x - batch.mirror) * _both_halves(batch))


def _both_halves(batch: SliceBatch) -> Tensor:
    """Where the brain without its rim has a mirror image, bool (n, 1, H, W)."""

    def compute(inner: SliceBatch) -> Tensor:
        rim = max(_RIM_MM, inner.options.rim_mm)
        return erode(inner.brain, rim, inner.pixel_mm) & inner.mirrored.bool()

    return batch.once("both halves", compute)


def _register_asymmetries(suffix: str, difference: str, sign: float) -> None:
    """The rivals that look at the aligned mirror image, of what is too bright or too dark."""
    where = f"maximum where both halves of the brain are, rim eroded, of the smoothed {difference}"

    @score(f"trivial_asymmetry_3d{suffix}", f"{where} the aligned mirror image", _OURS)
    def pixels(batch: SliceBatch) -> Tensor:
        """Max of G * ±(x − m), m the aligned mirror image; where no recipe made it, x flipped."""
        difference = batch.once("asymmetry", _asymmetry)
        return batch.brain_max(sign * difference, _both_halves(batch))

    summary = f"{where} the best of the aligned mirror image within {_WINDOW_MM:g} mm"

    @score(f"trivial_asymmetry_3d_window{suffix}", summary, _OURS)
    def means(batch: SliceBatch) -> Tensor:
        """Max of ``window_excess``."""
        return batch.brain_max(window_excess(batch, sign), _both_halves(batch))


_register_asymmetries("", "excess over", 1.0)
_register_asymmetries("_negative", "lack against", -1.0)


def _brain_quantile(batch: SliceBatch, q: float) -> Tensor:
    values = batch.x.masked_fill(~batch.brain, torch.nan).flatten(1)
    return values.nanquantile(q, dim=1).nan_to_num(0.0)
