"""Intensities made alike: the bias field is divided out, scans of other scanners are mapped.

N4: Tustison et al., IEEE Trans Med Imaging 29 (2010) 1310; SimpleITK's filter. The field is fitted
on averages over large cells, and over the brain's bounding box, so that neither the voxels'
noise nor the width of the margin matters.

Nyúl landmarks: Nyúl and Udupa, Magn Reson Med 42 (1999) 1072; Nyúl, Udupa and Zhang, IEEE Trans
Med Imaging 19 (2000) 143. Both kinds of map here are a handful of percentiles and a piecewise
linear function: numpy, so that its knots are at hand to bring reconstructions back to scan units
(SimpleITK's histogram matching does not give them away).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from twinvae.config import BiasCorrection, HistogramMatch, NyulScale, ZScore
from twinvae.errors import DataError
from twinvae.imaging.resample import CoarseGrid, from_itk, one_thread, to_itk
from twinvae.imaging.scan import Knots, LogGain, Working
from twinvae.imaging.steps.step import Fitted, Training, apply_step, fit_step
from twinvae.imaging.volume import Bools, Floats

Numbers = NDArray[np.float64]


@apply_step.register
def bias_correction(options: BiasCorrection, scan: Working, fitted: Fitted) -> Working:
    """Divide the image by the field; the brain stays as it is."""
    del fitted
    grid = CoarseGrid.around(scan.brain, scan.spacing_mm, options.grid_mm)
    coarse, inside = grid.averages(scan.image, scan.brain)
    if not inside.any():
        raise DataError(
            f"{scan.files.image}: expected a brain of many cells of {options.grid_mm:g} mm for "
            f"bias_correction (grid_mm), found {np.count_nonzero(scan.brain)} voxels"
        )
    positive = inside & (coarse > 0)
    if 2 * np.count_nonzero(positive) <= np.count_nonzero(inside):
        raise DataError(
            f"{scan.files.image}: expected positive intensities inside the brain for "
            f"bias_correction, found a mean of {scan.image[scan.brain].mean():g}"
        )
    try:
        log = _log_field(coarse, positive, grid.sides_mm, options)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise DataError(f"{scan.files.image}: N4 found no field ({said[-120:]})") from None
    gain = LogGain(log, grid)
    image = scan.image / gain.on_grid()
    return replace(scan, image=np.where(scan.brain, image, np.float32(0)), gain=gain)


@fit_step.register
def fit_nyul(options: NyulScale, training: Training) -> Fitted:
    """The mean landmarks, each scan's own first and last brought to 0 and ``level``."""
    rows = []
    for scan in training.working(options.fit_on, at_most=options.scans):
        marks = _percentiles(_inside(scan), options.percentiles)
        if marks[0] < marks[-1]:
            rows.append((marks - marks[0]) / (marks[-1] - marks[0]) * options.level)
    if not rows:
        raise _no_scan("nyul_scale", options.fit_on)
    return {"landmarks": np.mean(rows, axis=0).round(9).tolist(), "scans": len(rows)}


@apply_step.register
def nyul_scale(options: NyulScale, scan: Working, fitted: Fitted) -> Working:
    """Bring the scan's landmarks to the mean ones; clip to [0, 1]; outside stays zero."""
    values = _inside(scan)
    marks = _percentiles(values, options.percentiles)
    return _mapped(scan, values, _rising(marks, np.array(fitted["landmarks"]), scan))


@fit_step.register
def fit_reference(options: HistogramMatch, training: Training) -> Fitted:
    """The percentiles of the one reference scan, scaled; only that scan is read."""
    asked = training.working(options.fit_on, subject=options.subject, at_most=1)
    scan = next(iter(asked), None)
    if scan is None:
        whose = f" of subject {options.subject}" if options.subject else ""
        raise _no_scan("histogram_match", options.fit_on, whose)
    values = _inside(scan)
    low, high = _percentiles(values, [options.low, options.high])
    if not low < high:
        raise DataError(f"{scan.files.image}: expected contrast in the reference, found {low:g}")
    quantiles = (_quantiles(values, options.points) - low) * (options.level / (high - low))
    files = scan.files
    who = {"subject": files.subject, "session": files.session, "source": files.source}
    return {"reference": who, "quantiles": quantiles.round(9).tolist()}


@apply_step.register
def histogram_match(options: HistogramMatch, scan: Working, fitted: Fitted) -> Working:
    """Bring the scan's percentiles to the reference's; clip to [0, 1]; outside stays zero."""
    values = _inside(scan)
    found = _quantiles(values, options.points)
    return _mapped(scan, values, _rising(found, np.array(fitted["quantiles"]), scan))


@apply_step.register
def z_score(options: ZScore, scan: Working, fitted: Fitted) -> Working:
    """Subtract the mean, divide by the deviation, squash; outside stays zero."""
    del fitted
    values = _inside(scan)
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if not deviation > 1e-6 * abs(mean):
        raise DataError(f"{scan.files.image}: expected contrast inside the brain, found {mean:g}")
    width = deviation * options.width
    unit = expit((values - np.float32(mean)) / np.float32(width))
    steps = np.linspace(-6, 6, 121)  # enough for the way back: off by at most 0.1 % of the range
    knots = zip(mean + width * steps, expit(steps), strict=True)
    return _filled(scan, unit, tuple((float(a), float(b)) for a, b in knots))


def _log_field(
    coarse: Floats, inside: Bools, sides: tuple[float, float, float], options: BiasCorrection
) -> Floats:
    """The field's logarithm at the centres of the cells."""
    with one_thread() as sitk:
        image = to_itk(coarse, sides)
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations(options.iterations)
        n4.SetConvergenceThreshold(options.tolerance)
        n4.Execute(image, to_itk(inside.astype(np.uint8), sides))
        return from_itk(n4.GetLogBiasFieldAsImage(image))


def _inside(scan: Working) -> Floats:
    """Intensities inside the brain, slice by slice as they lie in memory."""
    values: Floats = scan.image.T[scan.brain.T]
    return values


def _quantiles(values: Floats, points: int) -> Numbers:
    return _percentiles(values, np.linspace(0, 100, points + 1).tolist())


def _percentiles(values: Floats, percentiles: Sequence[float]) -> Numbers:
    return np.asarray(np.percentile(values, percentiles), np.float64)


def _rising(found: Numbers, wanted: Numbers, scan: Working) -> Knots:
    """Knots without the ties of whole numbers: both coordinates rise from one to the next.

    Of percentiles that hold one value, the map gives that value the mean of what is wanted.
    """
    values, place = np.unique(found, return_inverse=True)
    means = np.bincount(place, wanted) / np.bincount(place)
    knots = [(float(values[0]), float(means[0]))]
    for value, mean in zip(values[1:], means[1:], strict=True):
        if mean > knots[-1][1] + 1e-9:
            knots.append((float(value), float(mean)))
    if len(knots) < 2:
        raise DataError(
            f"{scan.files.image}: expected contrast inside the brain, found {found[0]:g} to "
            f"{found[-1]:g}"
        )
    return tuple(knots)


def _mapped(scan: Working, values: Floats, knots: Knots) -> Working:
    """Map through the knots, beyond them along the first and last piece, and clip."""
    found, wanted = np.array(knots).T
    unit = np.interp(values, found, wanted)
    for end, outside in ((0, values < found[0]), (-2, values > found[-1])):
        slope = (wanted[end + 1] - wanted[end]) / (found[end + 1] - found[end])
        unit[outside] = wanted[end] + slope * (values[outside] - found[end])
    return _filled(scan, np.clip(unit, 0, 1).astype(np.float32), knots)


def _filled(scan: Working, unit: Floats, knots: Knots) -> Working:
    assert all(a[1] < b[1] for a, b in pairwise(knots))
    image = np.zeros(scan.brain.T.shape, np.float32)
    image[scan.brain.T] = unit
    return replace(scan, image=image.T, scale=knots)


def _no_scan(step: str, role: str, whose: str = "") -> DataError:
    kind = "" if role == "all" else f"{role} "
    return DataError(
        f"recipe: {step} expected a {kind}training scan{whose} to fit on, found none that can be "
        f"used"
    )
