"""A template to register to, coarse and small enough to be stored with the recipe."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from twinvae.errors import DataError
from twinvae.imaging.resample import CoarseGrid
from twinvae.imaging.volume import read_volume, turn_of, turned

_SIDE_MM = 4.0  # of the cells that registration looks at
_TOP = 99.9  # percentile of the brain that becomes 255
_MNI = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"

Triple = tuple[float, float, float]


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
        path = _mni() if path is None else Path(path)
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
        grid = CoarseGrid.around(brain, spacing, _SIDE_MM)
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


@cache
def _mni() -> Path:
    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise DataError("register: expected nilearn, whose MNI152 template is used; found none")
    return Path(spec.origin).parent / _MNI


def _three(values: Any) -> Triple:
    x, y, z = (round(float(value), 6) for value in values)
    return x, y, z
