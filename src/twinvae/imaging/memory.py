"""Scans in memory: images and arrays in, by the checks that files go through; images out."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike

from twinvae.errors import ConfigError, DataError
from twinvae.imaging.metaimage import itk_in_memory
from twinvae.imaging.nifti import nifti_image, nifti_in_memory
from twinvae.imaging.volume import Affine, Floats, Volume, checked


def volume_in_memory(given: Any, affine: ArrayLike | None, where: str) -> Volume:
    """A copy of ``given``: an image of nibabel's or SimpleITK's, or an array (X, Y, Z).

    ``affine``: 4×4, from the array's voxels to mm in the world (RAS); None for an image, which has
    its own. ``where`` names it in errors: ``DataError`` as for a file, ``ConfigError`` for an
    affine too many or too few.
    """
    volume = checked(where, lambda: _voxels(given, affine, where))
    # Laid out as readers of files lay out theirs: sums of floats depend on their order.
    return Volume(np.array(volume.data, np.float32, order="F"), volume.affine)


def to_nibabel(volume: Volume) -> nibabel.Nifti1Image:
    """The volume as an image in memory, float32, as ``write_volume`` would write it."""
    return nifti_image(volume.data, volume.affine)


def is_image(given: object) -> bool:
    """Whether it is an image of nibabel's or SimpleITK's, which says where its voxels lie."""
    return isinstance(given, SpatialImage) or _is_itk(given)


def _voxels(given: Any, affine: ArrayLike | None, where: str) -> tuple[Floats, Affine]:
    if is_image(given):
        if affine is not None:
            raise ConfigError(f"{where}: expected no affine beside an image, which has its own")
        return (itk_in_memory if _is_itk(given) else nifti_in_memory)(given, where)
    array = np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected an array of real numbers, found {array.dtype}")
    if affine is None:
        raise ConfigError(
            f"{where}: expected a 4×4 affine beside an array (voxels → mm, RAS), found none"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        return array.astype(np.float32), np.array(affine, np.float64)


def _is_itk(given: object) -> bool:
    return type(given).__module__.startswith("SimpleITK")  # slow to import, only to be asked
