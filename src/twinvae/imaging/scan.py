"""A scan on its way through the recipe: its files, its working copy, and where slices lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.imaging.resample import CoarseGrid
from twinvae.imaging.volume import (
    RAS,
    Affine,
    Bools,
    Floats,
    read_brain_mask,
    read_tumour_mask,
    read_volume,
)

Ints = NDArray[np.int64]
Knots = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ScanFiles:
    """One row of the manifest; ``role`` is healthy or mixed, ``split`` train, val, test or empty.

    A new scan given to `detect` is treated as mixed.
    """

    subject: str
    image: Path
    session: str = ""
    source: str = ""
    role: str = "mixed"
    split: str = ""
    brain_mask: Path | None = None
    tumour_mask: Path | None = None
    trust_grid: bool = False
    """Masks of the scan's shape and voxel size lie on its grid, whatever their headers say."""

    @classmethod
    def from_row(cls, row: Mapping[str, str] | pd.Series) -> Self:
        """From a manifest's row as ``read_manifest`` gives it: absolute paths, empty if absent."""
        return cls(
            subject=row["subject"],
            image=Path(row["image"]),
            session=row["session"],
            source=row["source"],
            role=row["role"],
            split=row["split"],
            brain_mask=Path(row["brain_mask"]) if row["brain_mask"] else None,
            tumour_mask=Path(row["tumour_mask"]) if row["tumour_mask"] else None,
            trust_grid=row.get("trust_grid", "") == "yes",
        )


@dataclass(frozen=True)
class Window:
    """The square the slices were cut from, in mm on the scan's own grid after reorientation.

    Along x and y, mm count from the outer edge of the first voxel. The picture's first column
    begins at ``x_max_mm`` and runs towards smaller x, its first row at ``y_max_mm`` and runs
    towards smaller y; its pixels are squares of side ``pixel_mm``.
    """

    x_max_mm: float
    y_max_mm: float
    pixel_mm: float


@dataclass(frozen=True)
class Pictures:
    """The kept slices as the network sees them: (n, H, W), image in [0, 1], masks 0 or 1."""

    image: Floats
    brain: NDArray[np.uint8]
    tumour: NDArray[np.uint8]
    window: Window


@dataclass(frozen=True)
class LogGain:
    """The bias field that was divided out, on the scan's own grid after reorientation."""

    log: Floats
    """Its logarithm at the centres of ``grid``'s cells."""
    grid: CoarseGrid

    def on_grid(self) -> Floats:
        """The field itself, float32 (X, Y, Z); 1 outside the brain's bounding box."""
        field = self.grid.spread(self.log)
        return np.exp(field, out=field)


@dataclass(frozen=True)
class Moved:
    """How a scan was brought onto a template's grid."""

    place: Affine
    """(4, 4): from places on the template's grid to places on the scan's own grid after
    reorientation, both in mm from the outer edge of the first voxel."""
    brain: Bools
    """The brain on the scan's own grid after reorientation, (X, Y, Z)."""
    spacing_mm: tuple[float, float, float]
    """Voxel size of that grid."""


@dataclass(frozen=True)
class Working:
    """What one step hands to the next. Arrays are (X, Y, Z) on the present grid unless said."""

    files: ScanFiles
    own_shape: tuple[int, int, int]
    """Shape of the file's array."""
    own_affine: Affine
    """Affine of the file's array."""
    orientation: NDArray[np.float64]
    """(3, 2): for each axis of the file, the present axis it became and ±1 for its direction."""
    image: Floats
    """Intensities; in scan units until a step maps them to [0, 1]."""
    spacing_mm: tuple[float, float, float]
    """Voxel size of the present grid."""
    given_brain: Bools | None
    """The manifest's brain mask, until the step brain_mask decides."""
    brain: Bools
    """The brain; everything until the step brain_mask."""
    tumour: Bools | None
    """The tumour; None when the scan has no mask."""
    counted_brain: Bools
    """The brain on the scan's own in-plane grid, before any resampling: pixels count there.
    After the step register that grid is the template's."""
    counted_spacing_mm: tuple[float, float, float]
    """Voxel size of that grid."""
    brain_px: Ints
    """Brain pixels of each slice, (Z,), counted on that grid."""
    tumour_px: Ints | None
    """Tumour pixels of each slice, (Z,), counted on that grid."""
    kept: Ints
    """Numbers along z of the slices still wanted, rising."""
    origin_mm: tuple[float, float] = (0.0, 0.0)
    """Where the present grid's first voxel begins along x and y, in mm of `Window`."""
    scale: Knots = ()
    """Knots (scan units, unit interval) of the piecewise linear map a step applied."""
    gain: LogGain | None = None
    """The bias field a step divided out."""
    moved: Moved | None = None
    """How the step register brought the scan onto the template's grid."""
    pictures: Pictures | None = None
    """What crop_resize made."""


def load_scan(files: ScanFiles, *, read_brain: bool = True) -> Working:
    """Read a scan and its masks; raises ``DataError`` for anything that cannot be used."""
    volume = read_volume(files.image)
    brain = tumour = None
    if files.brain_mask is not None and read_brain:
        brain = read_brain_mask(files.brain_mask, volume, trust_grid=files.trust_grid)
    if files.tumour_mask is not None:
        tumour = read_tumour_mask(files.tumour_mask, volume, trust_grid=files.trust_grid)
    x, y, z = volume.data.shape
    everything = np.broadcast_to(np.True_, volume.data.shape)
    # Formats round spacing differently; a tenth of a micron keeps their slices identical.
    sx, sy, sz = (round(side, 4) for side in volume.spacing_mm)
    return Working(
        files=files,
        own_shape=(x, y, z),
        own_affine=volume.affine,
        orientation=RAS,
        image=volume.data,
        spacing_mm=(sx, sy, sz),
        given_brain=brain,
        brain=everything,
        tumour=tumour,
        counted_brain=everything,
        counted_spacing_mm=(sx, sy, sz),
        brain_px=np.zeros(z, np.int64),
        tumour_px=None,
        kept=np.arange(z),
    )
