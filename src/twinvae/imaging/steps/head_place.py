"""Where the template's brain lies in a whole head: an affine map, by mutual information.

The MNI152 T1 that nilearn ships shows a brain without skull. It is held against the head inside the
brain and a few millimetres around it, where the skull is dark in every contrast; mutual information
(Mattes et al. 2003) asks only that equal tissues look alike, not how bright they are. The first
guess comes from the head's outline: the brain lies a finger's breadth below the crown, in the middle
of what the upper head spans. Nods and distances of slices that headers are often wrong about are
tried by turns, the best few fitted, all cells counted, one thread, nothing drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from twinvae.errors import DataError
from twinvae.imaging.resample import Triple, apply_taps, one_thread, resampling_taps, to_itk
from twinvae.imaging.steps.register import affine_of, mni_t1
from twinvae.imaging.volume import Affine, Bools, Floats

_TEMPLATE_SIDE_MM = 4.0
_HEAD_SIDE_MM = 3.0
_SHELL_MM = 6.0  # around the template's brain: fluid and skull
_CROWN_MM = 12.0  # from the scalp to the brain
_UPPER_MM = 150.0  # of the head below the crown that the first guess looks at; no neck
_CROWN_CM2 = 20.0  # a slice of the head, not of noise above it
_ROUND_MM = (16.0, 20.0)  # how much wider and longer the upper head is than the brain
_HEIGHTS = (0.75, 1.0, 1.4, 1.9)  # the slices' distance in the header over the true one
_NODS_DEG = (-20, 0, 20)
_LIFTS_MM = (-12, 0, 12)
_FITTED = 3  # of the first guesses


@dataclass(frozen=True)
class HeadPlace:
    """How the template lies in a head."""

    affine: Affine
    """(4, 4): from places on the template to places in the head, mm from the outer edge of the
    first voxel."""
    similarity: float
    """Mutual information in nats; larger is better."""


@dataclass(frozen=True)
class BrainTemplate:
    """The MNI152 T1 (ICBM 2009a symmetric) at 1 mm: intensity, zero outside the brain."""

    values: Floats

    def on(self, side_mm: float) -> tuple[Floats, Bools]:
        """Averaged over cells of ``side_mm``, and which of them are brain."""
        brain = to_cells(self.values > 0, (1.0, 1.0, 1.0), side_mm) >= 0.5
        return to_cells(self.values, (1.0, 1.0, 1.0), side_mm) * brain, brain


@cache
def brain_template() -> BrainTemplate:
    """Read it once a process; raises ``DataError`` without nilearn."""
    image: Any = nib.load(mni_t1())  # type: ignore[attr-defined]
    return BrainTemplate(np.asarray(image.dataobj, np.float32))


def to_cells(image: Any, spacing_mm: Triple, side_mm: float) -> Floats:
    """The image on cubes of ``side_mm``: averaged where its voxels are smaller, else interpolated.

    The first cube begins where the first voxel does.
    """
    cells = np.asarray(image, np.float32)
    for axis, spacing in enumerate(spacing_mm):
        count = int(np.ceil(round(image.shape[axis] * spacing / side_mm, 6)))
        taps = resampling_taps(image.shape[axis], 0.0, side_mm / spacing, count)
        cells = apply_taps(cells, taps, axis)
    return cells


def place_in_head(image: Floats, spacing_mm: Triple) -> HeadPlace:
    """Fit the template to a whole head (X, Y, Z) in RAS+; raises ``DataError`` where none is."""
    cells = to_cells(image, spacing_mm, _HEAD_SIDE_MM)
    crown = _crown(cells)
    values, brain = brain_template().on(_TEMPLATE_SIDE_MM)
    outside: Floats = ndimage.distance_transform_edt(~brain)
    sides = (_TEMPLATE_SIDE_MM,) * 3
    with one_thread() as sitk:
        shell = to_itk((outside * _TEMPLATE_SIDE_MM < _SHELL_MM).astype(np.uint8), sides)
        fixed = to_itk(values, sides)
        moving = to_itk(_levelled(cells, crown), (_HEAD_SIDE_MM,) * 3)
        blurred = [sitk.SmoothingRecursiveGaussian(one, 4.0) for one in (fixed, moving)]
        guesses = _guesses(sitk, brain, crown, lambda t: _metric(sitk, shell, t, *blurred))
        if not guesses:
            raise DataError("expected a whole head, found nothing that overlaps the template")
        fits = [_fit(sitk, shell, start, *blurred, 2.0, 1e-2, 60) for start in guesses[:_FITTED]]
        best = max(fits, key=lambda fit: fit[0])[1]
        sharper = [sitk.SmoothingRecursiveGaussian(one, 2.0) for one in (fixed, moving)]
        similarity, transform = _fit(sitk, shell, best, *sharper, 1.0, 1e-3, 100)
    return HeadPlace(affine_of(transform), similarity)


@dataclass(frozen=True)
class _Crown:
    """The upper head, in mm."""

    top: Triple
    """Its middle along x and y, its highest place along z."""
    sides: tuple[float, float]
    """How wide and how long it is."""


def _crown(cells: Floats) -> _Crown:
    """The head's outline, but for its outermost 2 %; raises ``DataError`` where none is."""
    low, high = np.percentile(cells, [2, 98])
    head = ndimage.gaussian_filter(cells, 1.0) > low + 0.1 * (high - low)
    labels, _ = ndimage.label(head)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    head = labels == sizes.argmax()
    slices = np.flatnonzero(head.sum((0, 1)) * _HEAD_SIDE_MM**2 / 100 > _CROWN_CM2)
    if not sizes.any() or not len(slices):
        raise DataError("expected a whole head on a dark background, found none")
    top = int(slices[-1])
    upper = np.argwhere(head[:, :, max(0, top - int(_UPPER_MM / _HEAD_SIDE_MM)) : top + 1])
    low, high = np.percentile(upper[:, :2], [1, 99], axis=0) * _HEAD_SIDE_MM
    x, y = (low + high + _HEAD_SIDE_MM) / 2
    wide, long = high - low + _HEAD_SIDE_MM
    return _Crown((float(x), float(y), (top + 1) * _HEAD_SIDE_MM), (float(wide), float(long)))


def _levelled(cells: Floats, crown: _Crown) -> Floats:
    """Intensities over the brain's own brightest, cut there: fat may be many times brighter."""
    middle = np.array(crown.top) - [0, 0, 85]
    radii = np.array([45, 55, 35])
    axes = [(np.arange(n) + 0.5) * _HEAD_SIDE_MM for n in cells.shape]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, radii, strict=True)) < 1
    top = float(np.percentile(cells[inside], 98)) if inside.any() else 0.0
    if top <= 0:
        raise DataError("expected contrast in the middle of the head, found none")
    return np.clip(cells / (1.2 * top), 0, 1).astype(np.float32)


def _guesses(sitk: Any, brain: Bools, crown: _Crown, metric: Any) -> list[Any]:
    """First guesses from the template to the head, the most similar first."""
    places = np.argwhere(brain)
    low, high = places.min(0) * _TEMPLATE_SIDE_MM, (places.max(0) + 1) * _TEMPLATE_SIDE_MM
    centre = (low + high) / 2
    mm = zip(crown.sides, _ROUND_MM, (high - low)[:2], strict=True)
    size = float(np.mean([(head - around) / brain_mm for head, around, brain_mm in mm]))
    tried = []
    for height, nod, lift in product(_HEIGHTS, _NODS_DEG, _LIFTS_MM):
        angle = np.deg2rad(nod)
        turn = np.array(
            [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
        )
        guess = sitk.AffineTransform(3)
        guess.SetCenter(centre.tolist())
        guess.SetMatrix((np.diag([size, size, size * height]) @ turn).ravel().tolist())
        half = height * size * (high[2] - centre[2])
        to = np.array(crown.top) + [0, 0, lift - _CROWN_MM - half]
        guess.SetTranslation((to - centre).tolist())
        tried.append((metric(guess), guess))
    found = [pair for pair in tried if pair[0] is not None]
    return [guess for _, guess in sorted(found, key=lambda pair: -pair[0])]


def _metric(sitk: Any, shell: Any, transform: Any, fixed: Any, moving: Any) -> float | None:
    """Mutual information; None where the two hardly overlap."""
    method = _method(sitk, shell)
    method.SetInitialTransform(transform, inPlace=False)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:
        return None


def _fit(
    sitk: Any, shell: Any, start: Any, fixed: Any, moving: Any, rate: float, least: float, most: int
) -> tuple[float, Any]:
    """Mutual information after the fit, and the fitted transform."""
    method = _method(sitk, shell)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=rate, minStep=least, numberOfIterations=most, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        said = " ".join(str(error).split())[-120:]
        raise DataError(f"expected a whole head that registers to the template ({said})") from None
    return -float(method.GetMetricValue()), start


def _method(sitk: Any, shell: Any) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(shell)
    method.SetInterpolator(sitk.sitkLinear)
    return method
