"""Bring a scan onto a template's grid, by mutual information, the same way every time.

An affine map is fitted to coarse copies of both (Mattes et al. 2003; SimpleITK), over all cells,
from the centres of mass, on one thread: nothing is drawn at random. A rigid map is the turn inside
the affine one (its polar decomposition), which real scans determine better than a rigid fit whose
sizes do not agree. The scan's header is not asked for its obliqueness: what counts is where the
brain lies in the array. The template is kept coarse, small enough to be stored with the recipe.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from twinvae.config import Register
from twinvae.errors import DataError
from twinvae.imaging.resample import CoarseGrid, Triple, on_other_grid, one_thread, to_itk
from twinvae.imaging.scan import Moved, Working
from twinvae.imaging.steps.step import Fitted, Training, apply_step, fit_step
from twinvae.imaging.volume import Affine, Bools, read_volume, turn_of, turned

_TEMPLATE_SIDE_MM = 4.0  # of the cells the template is averaged to
_TOP = 99.9  # percentile of the brain that becomes 255
_MNI = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_SIDE_MM = 3.0  # of those the scan is averaged to
_LEAST_OVERLAP = 0.7  # Dice of the two brains; a brain of the template's shape has above 0.9
_LEAST, _MOST = 0.5, 2.0  # believable stretches


@dataclass(frozen=True)
class Template:
    """A brain without skull in RAS+. Places are mm from the outer edge of its first voxel."""

    values: NDArray[np.uint8]
    """Its intensity averaged over coarse cells; zero outside the brain."""
    start_mm: Triple
    """Where the first cell begins."""
    side_mm: Triple
    """Sides of a cell."""
    size_mm: Triple
    """Size of the whole template, margins included."""

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """From a file, or the MNI152 T1 that nilearn ships; raises ``DataError``."""
        path = mni_t1() if path is None else Path(path)
        volume = read_volume(path)
        turn = turn_of(volume.affine)
        image = turned(volume.data, turn)
        spacing = _three(volume.spacing_mm[axis] for axis in np.argsort(turn[:, 0]))
        brain = image > 0
        if not brain.any() or brain.mean() > 0.9:
            raise DataError(
                f"{path}: expected a template without skull on a background of zero, found "
                f"{brain.mean():.0%} of its voxels above zero"
            )
        grid = CoarseGrid.around(brain, spacing, _TEMPLATE_SIDE_MM)
        means, _ = grid.averages(image, brain)
        means *= 255 / np.percentile(image[brain], _TOP)
        return cls(
            values=np.rint(np.clip(means, 0, 255)).astype(np.uint8),
            start_mm=_three(grid.start_mm),
            side_mm=_three(grid.sides_mm),
            size_mm=_three(n * side for n, side in zip(image.shape, spacing, strict=True)),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values; the cells as base64 of zlib of bytes, x slowest."""
        packed = zlib.compress(np.ascontiguousarray(self.values).tobytes(), 9)
        return {
            "cells": list(self.values.shape),
            "start_mm": list(self.start_mm),
            "side_mm": list(self.side_mm),
            "size_mm": list(self.size_mm),
            "values": base64.b64encode(packed).decode("ascii"),
        }

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """From what ``to_json`` gave; raises ``DataError`` when it is something else."""
        try:
            raw = zlib.decompress(base64.b64decode(values["values"], validate=True))
            cells = np.frombuffer(raw, np.uint8).reshape(values["cells"])
            start, side, size = (
                _three(values[name]) for name in ("start_mm", "side_mm", "size_mm")
            )
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise DataError(f"recipe: expected a stored template, found {error}") from None
        return cls(cells, start, side, size)


@fit_step.register
def fit_register(options: Register, training: Training) -> Fitted:
    """Keep the template with the recipe, so that detection does not need the file."""
    del training
    return {"template": Template.read(options.template).to_json()}


@apply_step.register
def register(options: Register, scan: Working, fitted: Fitted) -> Working:
    """Resample image and masks onto the template's grid; pixels are counted there from now on.

    A voxel on the brain's rim averages over the brain inside it, not over the void around.
    """
    if scan.spacing_mm[2] > options.thickest_mm + 1e-3:
        raise DataError(
            f"{scan.files.image}: expected slices at most {options.thickest_mm:g} mm apart for "
            f"register (thickest_mm), found {scan.spacing_mm[2]:g} mm"
        )
    template = Template.from_json(fitted["template"])
    place = _place(template, scan)
    if options.transform == "rigid":
        place = _turn_inside(place, template)
    side = options.voxel_mm
    x, y, z = (int(np.ceil(round(mm / side, 6))) for mm in template.size_mm)
    sides, shape = (side, side, side), (x, y, z)

    def brought(array: NDArray[Any]) -> NDArray[np.float32]:
        return on_other_grid(array, scan.spacing_mm, place, shape, sides)

    cover = brought(scan.brain)
    brain: Bools = cover >= 0.5
    _check(template, brain, sides, scan)
    image = brought(np.where(scan.brain, scan.image, np.float32(0)))
    tumour = None if scan.tumour is None else brought(scan.tumour) >= 0.5
    return replace(
        scan,
        image=np.where(brain, image / np.maximum(cover, np.float32(0.5)), np.float32(0)),
        spacing_mm=sides,
        brain=brain,
        tumour=tumour,
        counted_brain=brain,
        counted_spacing_mm=sides,
        brain_px=np.count_nonzero(brain, axis=(0, 1)),
        tumour_px=None if tumour is None else np.count_nonzero(tumour, axis=(0, 1)),
        kept=np.arange(z),
        moved=Moved(place, scan.brain, scan.spacing_mm),
    )


@cache
def mni_t1() -> Path:
    """The MNI152 T1 without skull in nilearn's wheel; raises ``DataError`` without nilearn."""
    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise DataError("register: expected nilearn, whose MNI152 template is used; found none")
    return Path(spec.origin).parent / _MNI


def _three(values: Any) -> Triple:
    x, y, z = (round(float(value), 6) for value in values)
    return x, y, z


def _place(template: Template, scan: Working) -> Affine:
    """(4, 4): from places on the template to places on the scan, by an affine fit."""
    grid = CoarseGrid.around(scan.brain, scan.spacing_mm, _SIDE_MM)
    means, inside = grid.averages(scan.image, scan.brain)
    low, high = np.percentile(means[inside], [1, 99]) if inside.any() else (0.0, 0.0)
    if not high - low > 1e-3 * max(abs(low), abs(high)):  # else it is rounding, not anatomy
        raise DataError(f"{scan.files.image}: expected contrast inside the brain, found {low:g}")
    # The darkest tissue stays above the void around the brain, and outliers are cut off.
    means = np.where(inside, 0.1 + 0.9 * np.clip((means - low) / (high - low), 0, 1), 0)
    moving = to_itk(means.astype(np.float32), grid.sides_mm, grid.start_mm)
    fixed = to_itk(template.values.astype(np.float32), template.side_mm, template.start_mm)
    try:
        transform = _fit(fixed, moving)
    except RuntimeError as error:
        said = " ".join(str(error).split())[-120:]
        raise DataError(f"{scan.files.image}: could not be registered ({said})") from None
    place = affine_of(transform)
    stretch = np.linalg.svd(place[:3, :3])[1]
    if not _LEAST < stretch.min() <= stretch.max() < _MOST or np.linalg.det(place[:3, :3]) < 0:
        raise DataError(
            f"{scan.files.image}: expected a brain of the template's shape, found that it would "
            f"be stretched by {stretch.min():.2f} to {stretch.max():.2f}"
        )
    return place


def affine_of(transform: Any) -> Affine:
    """(4, 4) of a SimpleITK transform that is affine."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    place = np.eye(4)
    for axis in range(3):
        place[:3, axis] = np.array(transform.TransformPoint(np.eye(3)[axis].tolist())) - origin
    place[:3, 3] = origin
    return place


def _fit(fixed: Any, moving: Any) -> Any:
    """SimpleITK's affine transform from places on ``fixed`` to places on ``moving``."""
    with one_thread() as sitk:
        initial = sitk.CenteredTransformInitializer(
            fixed,
            moving,
            sitk.AffineTransform(3),
            sitk.CenteredTransformInitializerFilter.MOMENTS,
        )
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0, minStep=1e-3, numberOfIterations=100, gradientMagnitudeTolerance=1e-6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([2, 1])
        method.SetSmoothingSigmasPerLevel([4.0, 2.0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(initial, inPlace=True)
        method.Execute(fixed, moving)
        return initial


def _turn_inside(place: Affine, template: Template) -> Affine:
    """The rigid map nearest to an affine one that agrees with it at the template's centre."""
    left, _, right = np.linalg.svd(place[:3, :3])
    centre = np.array(template.size_mm) / 2
    rigid = np.eye(4)
    rigid[:3, :3] = left @ right
    rigid[:3, 3] = place[:3, :3] @ centre + place[:3, 3] - rigid[:3, :3] @ centre
    return rigid


def _check(
    template: Template, brain: Bools, sides: tuple[float, float, float], scan: Working
) -> None:
    """Refuse a scan whose brain does not lie where the template's does."""
    there = template.values > 0
    shift = np.eye(4)
    shift[:3, 3] = template.start_mm
    here = on_other_grid(brain, sides, shift, there.shape, template.side_mm) >= 0.5
    overlap = 2 * np.count_nonzero(here & there) / max(here.sum() + there.sum(), 1)
    if overlap < _LEAST_OVERLAP:
        raise DataError(
            f"{scan.files.image}: expected a brain that registers to the template, found an "
            f"overlap (Dice) of {overlap:.2f}, less than {_LEAST_OVERLAP:g}"
        )
