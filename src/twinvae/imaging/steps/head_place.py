"""Where the template's brain lies in a whole head: an affine map, by mutual information.

The MNI152 T1 that nilearn ships shows a brain without skull. It is held against the head inside
the brain and a few millimetres around it, where the skull is dark in every contrast; the air around
the head is made bright, since against it the template would be stretched to the scalp. Mutual
information (Mattes et al. 2003) asks only that equal tissues look alike, not how bright they are.

First guesses come from the head's outline: the brain lies a finger's breadth below the crown, in
the middle of what the upper head spans. Sizes, nods, shifts and distances of slices (headers are
often wrong about them) are tried by turns and the best few fitted. Nothing is drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from twinvae.errors import DataError
from twinvae.imaging.resample import Triple, apply_taps, one_thread, resampling_taps, to_itk
from twinvae.imaging.steps.register import affine_of, mni_t1
from twinvae.imaging.volume import Affine, Bools, Floats

_TEMPLATE_SIDE_MM = 4.0
HEAD_SIDE_MM = 3.0
_SHELL_MM = 6.0  # around the template's brain: fluid and skull
_CROWN_MM = 12.0  # from the scalp to the brain
_UPPER_MM = 90.0  # of the head below the crown that the first guess looks at: no nose, no neck
_MIDDLE_MM = 85.0  # from the crown to the middle of the brain,
_INNER_MM = (45.0, 55.0, 35.0)  # and radii of what is surely brain around it
_CROWN_CM2 = 20.0  # a slice of the head, not of noise above it
_MARGIN = 20  # cells around the head
_AROUND = 0.7  # of 1.2 times the brain's brightest: how bright the surroundings are made
_GAPS_MM = 9.0  # in the scalp: narrower than twice this they are closed
_ROUND_MM = (16.0, 20.0)  # how much wider and longer the upper head is than the brain
_SIZES = (0.92, 1.0)
_HEIGHTS = (0.75, 1.0, 1.4, 1.9)  # the slices' distance in the header over the true one
_NODS_DEG = (-20, 0, 20)
_LIFTS_MM = (-12, 0, 12)
_ADVANCES_MM = (-12, 0, 12)
_EVERY = 4  # of the template's cells, while guesses are compared
_LEAST_INSIDE = 0.6
_FITTED = 3  # of the first guesses


@dataclass(frozen=True)
class HeadPlace:
    """How the template lies in a head."""

    affine: Affine
    """(4, 4): from places on the template to places in the head, mm from the outer edge of the
    first voxel."""
    similarity: float
    """Mutual information in nats; larger is better."""
    head: Bools
    """The head, all that is dark inside it included, on cubes of ``HEAD_SIDE_MM``."""


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
    image: Any = nib.load(mni_t1())
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
    cells = to_cells(image, spacing_mm, HEAD_SIDE_MM)
    head = _head(cells)
    crown = _crown(head)
    surrounded = _without_air(cells, head, crown)
    starts = _guesses(surrounded, crown)[:_FITTED]
    margin = -_MARGIN * HEAD_SIDE_MM
    with one_thread() as sitk:
        moving = to_itk(surrounded, (HEAD_SIDE_MM,) * 3, (margin, margin, 0.0))
        values, brain = brain_template().on(_TEMPLATE_SIDE_MM)
        sides = (_TEMPLATE_SIDE_MM,) * 3
        fixed, shell = to_itk(values, sides), to_itk(_shell(brain).astype(np.uint8), sides)

        def fit(start: Any, blur_mm: float, *descent: Any) -> tuple[float, Any]:
            pair = (sitk.SmoothingRecursiveGaussian(one, blur_mm) for one in (fixed, moving))
            return _fit(sitk, shell, start, *pair, *descent)

        fits = [fit(_transform(sitk, start), 4.0, 2.0, 1e-2, 60) for start in starts]
        best = max(fits, key=lambda found: found[0])[1]
        similarity, transform = fit(best, 2.0, 1.0, 1e-3, 100)
    return HeadPlace(affine_of(transform), similarity, head)


@dataclass(frozen=True)
class _Crown:
    """The upper head, in mm."""

    top: Triple
    """Its middle along x and y, its highest place along z."""
    sides: tuple[float, float]
    """How wide and how long it is."""


def _head(cells: Floats) -> Bools:
    """The head with all that is dark inside it; raises ``DataError`` where none is."""
    low, high = np.percentile(cells, [2, 98])
    labels, count = ndimage.label(ndimage.gaussian_filter(cells, 1.0) > low + 0.1 * (high - low))
    if not count:
        raise DataError("expected a whole head on a dark background, found nothing bright")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    margin = int(_GAPS_MM / HEAD_SIDE_MM) + 1
    head = np.pad(labels == sizes.argmax(), margin)
    near = ndimage.distance_transform_edt(~head) * HEAD_SIDE_MM <= _GAPS_MM
    head |= ndimage.distance_transform_edt(near) * HEAD_SIDE_MM > _GAPS_MM
    head = head[margin:-margin, margin:-margin, margin:-margin]
    for z in range(head.shape[2]):  # open below, so that holes are filled slice by slice
        head[:, :, z] = ndimage.binary_fill_holes(head[:, :, z])
    return np.asarray(head, np.bool_)


def _crown(head: Bools) -> _Crown:
    """The upper head, but for its outermost 1 %; raises ``DataError`` where there is none."""
    slices = np.flatnonzero(head.sum((0, 1)) * HEAD_SIDE_MM**2 / 100 > _CROWN_CM2)
    if not len(slices):
        raise DataError("expected a whole head on a dark background, found something small")
    top = int(slices[-1])
    upper = np.argwhere(head[:, :, max(0, top - int(_UPPER_MM / HEAD_SIDE_MM)) : top + 1])
    low, high = np.percentile(upper[:, :2], [1, 99], axis=0) * HEAD_SIDE_MM
    x, y = (low + high + HEAD_SIDE_MM) / 2
    wide, long = high - low + HEAD_SIDE_MM
    return _Crown((float(x), float(y), (top + 1) * HEAD_SIDE_MM), (float(wide), float(long)))


def _without_air(cells: Floats, head: Bools, crown: _Crown) -> Floats:
    """The head over its brain's brightest, cut there, in surroundings as bright as brain.

    So only what is dark inside the head, the skull above all, is dark: against black air the
    template would be stretched to the scalp. There is a margin all around but below.
    """
    middle = np.array(crown.top) - (0, 0, _MIDDLE_MM)
    axes = [(np.arange(n) + 0.5) * HEAD_SIDE_MM for n in cells.shape]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)

    inside = sum(((g - m) / r) ** 2 for g, m, r in zip(grid, middle, _INNER_MM, strict=True)) < 1
    top = float(np.percentile(cells[inside], 98)) if inside.any() else 0.0
    if top <= 0:
        raise DataError("expected contrast in the middle of the head, found none")
    scaled = np.where(head, np.clip(cells / (1.2 * top), 0, 1), np.float32(_AROUND))
    sides = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, _MARGIN))
    return np.pad(scaled, sides, constant_values=_AROUND).astype(np.float32)


def _shell(brain: Bools) -> Bools:
    """The template's brain and a little around it: all that is compared."""
    near: Bools = ndimage.distance_transform_edt(~brain) * _TEMPLATE_SIDE_MM < _SHELL_MM
    return near


def _guesses(surrounded: Floats, crown: _Crown) -> list[Affine]:
    """First guesses from the template to the head, the most similar first."""
    values, brain = brain_template().on(_TEMPLATE_SIDE_MM)
    places = np.argwhere(brain)
    low, high = places.min(0) * _TEMPLATE_SIDE_MM, (places.max(0) + 1) * _TEMPLATE_SIDE_MM
    mm = zip(crown.sides, _ROUND_MM, (high - low)[:2], strict=True)
    size = float(np.mean([(head - around) / brain_mm for head, around, brain_mm in mm]))
    shell = np.argwhere(_shell(brain))[::_EVERY]
    template = ndimage.gaussian_filter(values, 1.0)[tuple(shell.T)]
    at = (shell + 0.5) * _TEMPLATE_SIDE_MM
    head = ndimage.gaussian_filter(surrounded, 1.3)
    tried = []
    for share, height, nod, lift, advance in product(
        _SIZES, _HEIGHTS, _NODS_DEG, _LIFTS_MM, _ADVANCES_MM
    ):
        angle = np.deg2rad(nod)
        turn = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
        guess = np.eye(4)
        guess[:3, :3] = np.diag([1, 1, height]) @ np.array(turn) * (size * share)
        half = height * size * share * (high[2] - low[2]) / 2
        middle = np.add(crown.top, (0, advance, lift - _CROWN_MM - half))
        guess[:3, 3] = middle - guess[:3, :3] @ ((low + high) / 2)
        tried.append((_likeness(template, head, at @ guess[:3, :3].T + guess[:3, 3]), guess))
    return [guess for _, guess in sorted(tried, key=lambda pair: -pair[0])]


def _likeness(template: Floats, head: Floats, at_mm: NDArray[np.float64]) -> float:
    """Mutual information in nats; worst where much of the template lies below the picture."""
    inside = at_mm[:, 2] > 0
    if inside.mean() < _LEAST_INSIDE:
        return -1.0
    cells = at_mm[inside] / HEAD_SIDE_MM - 0.5 + [_MARGIN, _MARGIN, 0]
    values = ndimage.map_coordinates(head, cells.T, order=1, mode="constant", cval=_AROUND)
    counts, _, _ = np.histogram2d(
        template[inside], values, bins=(16, 16), range=((0, 256), (0, 1.001))
    )
    share = counts / counts.sum()
    apart = share.sum(1, keepdims=True) * share.sum(0, keepdims=True)
    some = share > 0
    return float((share[some] * np.log(share[some] / apart[some])).sum())


def _transform(sitk: Any, place: Affine) -> Any:
    """SimpleITK's, that turns about the template's middle."""
    transform = sitk.AffineTransform(3)
    centre = np.array(brain_template().values.shape) / 2
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(place[:3, :3].ravel().tolist())
    transform.SetTranslation((place[:3, :3] @ centre + place[:3, 3] - centre).tolist())
    return transform


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
