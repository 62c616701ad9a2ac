"""Turning arrays to RAS+ and back: flips and axis swaps, no voxel changes its value.

A turn is nibabel's orientation, float64 (3, 2): for each axis of the file's array, the axis of
the RAS+ array it becomes, and ±1 for its direction.
"""

from __future__ import annotations

from typing import Any, TypeVar

import nibabel
import numpy as np
from numpy.typing import NDArray

_nib: Any = nibabel.orientations  # untyped
_Scalar = TypeVar("_Scalar", bound=np.generic)

RAS: NDArray[np.float64] = np.array([[0, 1], [1, 1], [2, 1]], float)
"""The turn that changes nothing."""


def turn_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn that brings an array with this affine to RAS+, an oblique one to the nearest."""
    turn: NDArray[np.float64] = _nib.io_orientation(affine)
    return turn


def turned(array: NDArray[_Scalar], turn: NDArray[np.float64]) -> NDArray[_Scalar]:
    """The array turned, with x running fastest in memory: later steps work slice by slice."""
    return np.asfortranarray(_nib.apply_orientation(array, turn))


def turned_back(array: NDArray[_Scalar], turn: NDArray[np.float64]) -> NDArray[_Scalar]:
    """Undo ``turned``."""
    return np.ascontiguousarray(_nib.apply_orientation(array, _nib.ornt_transform(RAS, turn)))


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Where the axes of an array point, for example `LPS`."""
    return "".join(_nib.aff2axcodes(affine))
