"""A scan on its way through the recipe: its files, its working copy, and whether its masks fit;
and what quality control notes of it on the way (``Look``).

Where a manifest says to trust a mask's grid, its header is no witness of where it lies, but its
voxels are. A header of the wrong sign shows as a mask turned about the grid's middle, so every such
turn is tried. Heads are nearly their own mirror image: brain masks cannot tell left from right, and
a tumour mask only by how bright it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.errors import DataError
from twinvae.imaging.nifti import orientation_facts
from twinvae.imaging.resample import CoarseGrid
from twinvae.imaging.volume import (
    RAS,
    Affine,
    Bools,
    Floats,
    Volume,
    axis_codes,
    brain_mask_of,
    content_hash,
    read_brain_mask,
    read_tumour_mask,
    read_volume,
    scan_of,
)

Ints = NDArray[np.int64]
Facts = dict[str, float | str]
Knots = tuple[tuple[float, float], ...]

_AXES = ("left and right", "front and back", "top and bottom")
_TURNS = tuple(axes for n in (1, 2, 3) for axes in combinations(range(3), n))
_BETTER = 0.05  # of the mask more inside, before a turn fits better than the mask as it is
_TUMOUR_INSIDE = 0.9  # of a tumour mask, at least, lies in the brain
_BRAIN_INSIDE = 0.8  # of a brain mask, at least, lies on the head: fluid and air cells are dark
_HEAD = 0.05  # of the scan's 99th percentile: what is brighter is no air
_PLAIN = 0.5  # robust deviations: a mask no brighter than this is of no bright tissue
_BRIGHTER = 1.0  # robust deviations that a turn must be brighter


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
    contrast: str = ""
    """As the manifest or the user says; empty: as its name or header may say."""
    voxels: Volume | None = field(default=None, compare=False, repr=False)
    """The scan itself, if it is in memory; ``image`` is then only what it is called."""
    brain_voxels: Volume | None = field(default=None, compare=False, repr=False)
    """Its brain mask, if that is in memory."""

    def read(self) -> Volume:
        """The scan; raises ``DataError`` as ``read_volume``, wherever it is."""
        return read_volume(self.image) if self.voxels is None else scan_of(self.voxels, self.image)

    def read_brain(self, like: Volume) -> Bools | None:
        """Its brain mask on the grid of ``like``; None when there is none."""
        if self.brain_voxels is not None:
            where = f"brain mask of {self.image}"
            return brain_mask_of(self.brain_voxels, where, like, trust_grid=self.trust_grid)
        if self.brain_mask is None:
            return None
        return read_brain_mask(self.brain_mask, like, trust_grid=self.trust_grid)

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
            contrast=row.get("contrast", ""),
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
    mirror: Floats | None = None
    """What ``symmetry.aligned_mirror`` gives, after the step align_mirror."""


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

    @property
    def position(self) -> NDArray[np.float64]:
        """Where the kept slices lie: 0 at the brain's lowest slice, 1 at its highest; rising."""
        low, high = np.flatnonzero(self.brain_px)[[0, -1]]
        return np.asarray((self.kept - low) / max(high - low, 1), np.float64)


def load_scan(files: ScanFiles, *, read_brain: bool = True) -> Working:
    """Read a scan and its masks; raises ``DataError`` for anything that cannot be used."""
    volume, tumour = files.read(), None
    brain = files.read_brain(volume) if read_brain else None
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


def check_axes(scan: Working) -> None:
    """Raise ``DataError`` unless the axes of a scan that is not reoriented are RAS+."""
    found = axis_codes(scan.own_affine)
    if found != "RAS":
        raise DataError(
            f"{scan.files.image}: expected RAS+ axes, found {found}; begin the recipe with reorient"
        )


def check_brain_place(scan: Working) -> None:
    """Raise ``DataError`` when the given brain mask of a trusted grid is not on the head.

    ``scan`` is as it was read, before the step brain_mask.
    """
    if scan.files.trust_grid and scan.given_brain is not None:
        bright = np.percentile(scan.image[scan.image != 0], 99)
        head: Bools = scan.image > _HEAD * bright
        _refuse(str(scan.files.brain_mask), scan.given_brain, head, "head", _BRAIN_INSIDE)


def check_tumour_place(scan: Working) -> None:
    """Raise ``DataError`` when the tumour mask of a trusted grid is not in the brain.

    ``scan`` is as the step brain_mask left it.
    """
    if scan.files.trust_grid and scan.tumour is not None and scan.tumour.any():
        _refuse(str(scan.files.tumour_mask), scan.tumour, scan.brain, "brain", _TUMOUR_INSIDE)


def brighter_turn(mask: Bools, brain: Bools, image: Floats) -> str:
    """In words, how the mask would lie on brighter tissue if turned; empty where it would not.

    Asked only of a mask that is like the rest of the brain: T2w and FLAIR show tumours bright, and
    one that is darker than the brain is seen in another way (T1w). Brightness is the median's
    distance from the brain's in robust standard deviations. A small mask may be turned onto a
    ventricle by chance, so that this is a reason to look, not to refuse.
    """
    inside = image[brain]
    middle = float(np.median(inside)) if inside.size else 0.0
    spread = 1.4826 * float(np.median(np.abs(inside - middle))) if inside.size else 0.0
    own = _brightness(mask & brain, image, middle, spread)
    if spread == 0 or own is None or abs(own) > _PLAIN:
        return ""
    best, named = own + _BRIGHTER, ""
    for name, turned in _turned(mask):
        bright = _brightness(turned & brain, image, middle, spread)
        # A turn that leaves the brain says nothing, however bright the rest of it is.
        lost = np.count_nonzero(turned & ~brain) > (1 - _TUMOUR_INSIDE) * np.count_nonzero(turned)
        if bright is not None and bright >= best and not lost:
            best = bright
            named = (
                f"as bright as the brain ({own:+.1f} robust SD), but with {name} exchanged it "
                f"would be bright ({bright:+.1f})"
            )
    return named


@dataclass
class Look:
    """Sees a scan as it was read and once its brain is known; remembers only ``facts``."""

    facts: Facts = field(default_factory=dict)

    def as_read(self, scan: Working) -> None:
        """Voxels in the file's own axes, before any step."""
        image = scan.image
        top = float(image.max())
        at_top = int(np.count_nonzero(image == image.max()))
        self.facts |= {
            "content": content_hash(image),
            "top_value": top,
            "top_voxels": float(at_top),
            "top_share": _rounded(at_top / max(1, int(np.count_nonzero(image)))),
            "handedness": float(np.sign(np.linalg.det(scan.own_affine[:3, :3]))),
        }
        self.facts |= orientation_facts(scan.files.image, scan.own_shape)
        if scan.tumour is not None:
            background = np.count_nonzero(image[scan.tumour] == 0)
            self.facts["tumour_voxels"] = float(np.count_nonzero(scan.tumour))
            self.facts["tumour_in_background"] = float(background)

    def with_brain(self, scan: Working) -> None:
        """The same scan after the step brain_mask."""
        x, y, z = scan.counted_spacing_mm
        self.facts |= {
            "spacing_x_mm": x,
            "spacing_y_mm": y,
            "spacing_z_mm": z,
            "brain_ml": _rounded(float(scan.brain_px.sum()) * x * y * z / 1000),
            "area_cm2": _rounded(float(scan.brain_px.max()) * x * y / 100),
        }
        if scan.tumour is not None:
            outside = np.count_nonzero(scan.tumour) - np.count_nonzero(scan.tumour & scan.brain)
            self.facts["tumour_outside_brain"] = float(outside)
            self.facts["tumour_turn"] = brighter_turn(scan.tumour, scan.brain, scan.image)


def _refuse(file: str, mask: Bools, within: Bools, what: str, least: float) -> None:
    own = _share(mask, within)
    name, best = max(
        ((name, _share(turned, within)) for name, turned in _turned(mask)), key=lambda one: one[1]
    )
    if own >= least and best <= own + _BETTER:
        return
    hint = f"; with {name} exchanged {best:.0%} would" if best > own + _BETTER else ""
    raise DataError(
        f"{file}: expected a mask that lies in the {what}, found {own:.0%} of it there{hint}: its "
        f"grid is not the scan's, though --trust-grid or the column trust_grid says so"
    )


def _share(mask: Bools, within: Bools) -> float:
    return float(np.count_nonzero(mask & within) / np.count_nonzero(mask))


def _brightness(mask: Bools, image: Floats, middle: float, spread: float) -> float | None:
    if spread == 0 or not mask.any():
        return None
    return (float(np.median(image[mask])) - middle) / spread


def _turned(mask: Bools) -> Iterator[tuple[str, Bools]]:
    """Every turn of the mask about the grid's middle, with its name."""
    for axes in _TURNS:
        yield ", ".join(_AXES[axis] for axis in axes), np.flip(mask, axes)


def _rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
