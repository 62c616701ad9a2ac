"""SimpleITK for arrays (X, Y, Z) on a RAS+ grid, without the world: one frame, no flips.

Places are mm along x, y, z from the outer edge of the grid's first voxel.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.imaging.volume import Affine, Floats

Sides = tuple[float, float, float]
Shape = tuple[int, int, int]


def simpleitk() -> Any:
    """SimpleITK, untyped and slow to import."""
    return importlib.import_module("SimpleITK")


@contextmanager
def one_thread() -> Iterator[Any]:
    """SimpleITK on one thread: scans run in parallel, and sums come in one order."""
    sitk = simpleitk()
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield sitk
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def to_itk(array: NDArray[Any], sides: Sides, start: Sides = (0.0, 0.0, 0.0)) -> Any:
    """An image of voxels with these sides, in mm, whose first begins at ``start``."""
    image = simpleitk().GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(sides)
    image.SetOrigin([a + side / 2 for a, side in zip(start, sides, strict=True)])
    return image


def from_itk(image: Any) -> Floats:
    """The image's values, float32 (X, Y, Z)."""
    array: Floats = simpleitk().GetArrayFromImage(image).T
    return array.astype(np.float32, copy=False)


def on_other_grid(
    array: NDArray[Any], sides: Sides, place: Affine, to_shape: Shape, to_sides: Sides
) -> Floats:
    """Interpolate ``array`` linearly on another grid; zero outside.

    ``place``, (4, 4), leads from places on the other grid to places on the array's.
    """
    with one_thread() as sitk:
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(place[:3, :3].ravel().tolist())
        transform.SetTranslation(place[:3, 3].tolist())
        resample = sitk.ResampleImageFilter()
        resample.SetTransform(transform)
        resample.SetSize(to_shape)
        resample.SetOutputSpacing(to_sides)
        resample.SetOutputOrigin([side / 2 for side in to_sides])
        return from_itk(resample.Execute(to_itk(array.astype(np.float32), sides)))
