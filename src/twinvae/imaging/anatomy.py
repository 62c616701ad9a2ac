"""Is this a head, the right way up, and which tissue is bright? A scan's numbers against an atlas.

The atlas is the MNI152 average of 152 people (ICBM 2009a, Fonov et al. 2011) as nilearn ships it.
Scan and atlas are laid into each other by the box around the brain alone, divided into the same
cells: size, voxels, position and a moderate tilt do not matter. Nothing is fitted on scans.
Intensities count by their rank inside the scan's brain, and after slow changes over the head are
taken away, so that the scanner's scale and its bias field do not count and a tumour counts little.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from twinvae.cohort.phantom.mni152 import brain_nearby, load_averages
from twinvae.imaging.resample import apply_taps, resampling_taps
from twinvae.imaging.volume import Bools

Cells = NDArray[np.float64]

STATISTICS = (
    "shape_correlation",
    "shape_turned",
    "white_over_grey",
    "fluid_over_grey",
    "smoothness",
)
"""What ``anatomy_statistics`` gives."""
_CELLS = 24  # along each axis of the brain's box
_BOX = (0.005, 0.995)  # shares of the brain along an axis between which its box lies
_FINE = 0.9  # cells, standard deviation: what is finer differs between people
_COARSE = 3.0  # cells, standard deviation: what is coarser is bias field or a large lesion
_SOLID = (0.1, 0.9)  # ranks of tissue: below and above lie fluid, fat, vessels and bright lesions
_ENOUGH = 4 * _CELLS  # voxels along an axis
_SOFT = 0.5  # cells, standard deviation: as far as outlines of one head differ between tools
_INNER = 0.97  # share of brain in a cell that lies inside, where no dura, bone or void is mixed in
_FLAT = 1e-9  # what is this even differs by rounding alone
_FEWEST = 200  # cells, before a correlation says anything
_TURNS = ((2,), (1,), (1, 2))  # upside down, back to front, both: a head lying on its other end


@dataclass(frozen=True)
class _Atlas:
    """Cells (X, Y, Z) of the atlas, RAS."""

    brain: Cells
    """Share of brain in each cell."""
    white: Cells
    """Share of white matter; NaN outside the brain."""
    fluid: Cells
    """Share of CSF; NaN outside the brain."""


def anatomy_statistics(
    brain: Bools,
    images: NDArray[np.uint16],
    masks: NDArray[np.uint8],
    position: NDArray[np.float64],
) -> dict[str, float]:
    """Numbers of one scan that no tumour changes much, all without unit.

    ``brain``: (X, Y, Z), RAS, on a grid of its own. ``images``, ``masks``: (n, H, W), the prepared
    slices and the brain in them, rows from front to back, columns from the person's right.
    ``position``: (n,) rising, 0 at the brain's lowest slice and 1 at its highest.

    - ``shape_correlation``: of the brain's cells with the atlas brain's, at most 1.
    - ``shape_turned``: how much better the best of three turns (upside down, back to front, both)
      correlates; below 0 for a head the right way up.
    - ``white_over_grey``, ``fluid_over_grey``: partial correlations of intensity with white matter
      and with CSF, where the atlas has them; above 0 where brighter than grey matter.
    - ``smoothness``: correlation of neighbouring pixels, in the median slice.
    """
    return {
        **_shape(brain),
        **_tissue(images, masks > 0, position),
        "smoothness": _smoothness(images, masks > 0),
    }


def _shape(brain: Bools) -> dict[str, float]:
    if not brain.any():
        return {"shape_correlation": 0.0, "shape_turned": 0.0}
    own, theirs = _shape_cells(brain), _atlas().brain
    as_it_is = _correlation(own, theirs)
    turned = max(_correlation(own, np.flip(theirs, axes)) for axes in _TURNS)
    return {"shape_correlation": as_it_is, "shape_turned": turned - as_it_is}


def _tissue(
    images: NDArray[np.uint16], masks: Bools, position: NDArray[np.float64]
) -> dict[str, float]:
    """Partial and multiple correlations with the atlas's tissues."""
    white = fluid = 0.0
    values = images[masks]
    if not values.size:
        return {"white_over_grey": white, "fluid_over_grey": fluid}
    rank = _rank(values)
    z, y, x = np.nonzero(masks)
    height = np.clip((position[z] * _CELLS).astype(np.int64), 0, _CELLS - 1)
    # Columns run from right to left and rows from front to back; x and y run the other way.
    place = (_CELLS - 1 - _binned(x), _CELLS - 1 - _binned(y), height)
    solid = (rank > _SOLID[0]) & (rank < _SOLID[1])
    atlas = _atlas()
    white = _partial(_means(rank[solid], tuple(a[solid] for a in place)), atlas.white, atlas.fluid)
    fluid = _partial(_means(rank, place), atlas.fluid, atlas.white)
    return {"white_over_grey": white, "fluid_over_grey": fluid}


def _rank(values: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The rank of each value, from almost 0 to 1; equal ones share their mean."""
    counts = np.bincount(values)
    rank: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2) / values.size
    return rank[values]


def _partial(cells: Cells, tissue: Cells, other: Cells) -> float:
    """Partial correlation of ``cells`` with ``tissue``, ``other`` held; 0 where undefined."""
    known = np.isfinite(cells) & np.isfinite(tissue)
    if np.count_nonzero(known) < _FEWEST:
        return 0.0
    own, one, two = (
        _band(np.where(known, values, np.nan))[known] for values in (cells, tissue, other)
    )
    if min(np.ptp(own), np.ptp(one), np.ptp(two)) < _FLAT:
        return 0.0
    r = np.corrcoef([own, one, two])
    left = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(max(left, 1e-12)))


def _smoothness(images: NDArray[np.uint16], masks: Bools) -> float:
    found = []
    for image, mask in zip(images, masks, strict=True):
        pairs = mask[:, 1:] & mask[:, :-1]
        if np.count_nonzero(pairs) < 10:
            continue
        left, right = (part[pairs].astype(np.float64) for part in (image[:, :-1], image[:, 1:]))
        if np.ptp(left) > 0 and np.ptp(right) > 0:
            found.append(float(np.corrcoef(left, right)[0, 1]))
    return float(np.median(found)) if found else 0.0


@cache
def _atlas() -> _Atlas:
    averages = load_averages()
    brain = brain_nearby(averages.brain) > 127
    places = np.nonzero(brain)
    place = (_binned(places[0]), _binned(places[1]), _binned(places[2], whole=True))
    grey, white = (share[brain] / 255.0 for share in (averages.grey, averages.white))
    shape = _shape_cells(brain)
    inner = shape > _INNER
    white, fluid = (
        np.where(inner, _means(share, place), np.nan)
        for share in (white, np.clip(1 - grey - white, 0, 1))
    )
    return _Atlas(shape, white, fluid)


def _shape_cells(brain: Bools) -> Cells:
    """(cells,) * 3: share of brain in each cell of its box, a little blurred."""
    every = tuple(slice(None, None, max(1, n // _ENOUGH)) for n in brain.shape)
    brain = np.ascontiguousarray(brain[every])  # cells hold many voxels: a part of them will do
    flat = np.count_nonzero(brain, axis=2)  # (X, Y), which two axes' counts follow from
    counts = (flat.sum(axis=1), flat.sum(axis=0), np.count_nonzero(brain, axis=(0, 1)))
    boxes = [_box(count) for count in counts]
    low, high = (np.array(ends, dtype=np.int64) for ends in zip(*boxes, strict=True))
    cells: NDArray[Any] = brain[tuple(slice(*ends) for ends in zip(low, high, strict=True))]
    for axis in range(3):
        step = cells.shape[axis] / _CELLS
        cells = apply_taps(cells, resampling_taps(cells.shape[axis], 0.0, step, _CELLS), axis)
    blurred: Cells = ndimage.gaussian_filter(cells.astype(np.float64), _SOFT, mode="nearest")
    return blurred


def _box(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Where the brain begins and ends along an axis, given its voxels per line."""
    share = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(share, _BOX)
    return float(low), float(high + 1)


def _binned(index: NDArray[np.int64], *, whole: bool = False) -> NDArray[np.int64]:
    """The cell along one axis of each voxel of the brain, given its index along that axis."""
    count = np.bincount(index)
    inside = np.flatnonzero(count)
    low, high = (inside[0], inside[-1] + 1) if whole else _box(count)
    cell = ((np.arange(len(count)) + 0.5 - low) / (high - low) * _CELLS).astype(np.int64)
    return np.clip(cell, 0, _CELLS - 1)[index]


def _means(values: NDArray[np.float64], place: tuple[NDArray[np.int64], ...]) -> Cells:
    """(cells,) * 3: mean of the values in each cell; NaN where there is none."""
    flat = np.ravel_multi_index(place, (_CELLS,) * 3)
    count = np.bincount(flat, minlength=_CELLS**3)
    total = np.bincount(flat, weights=values, minlength=_CELLS**3)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean.reshape((_CELLS,) * 3)


def _band(cells: Cells) -> Cells:
    """What is neither finer nor coarser than anatomy, of cells that may be NaN."""
    known = np.isfinite(cells).astype(np.float64)
    values = np.nan_to_num(cells)

    def blurred(sigma: float) -> Cells:
        weight = np.maximum(ndimage.gaussian_filter(known, sigma), 1e-6)
        result: Cells = ndimage.gaussian_filter(values * known, sigma) / weight
        return result

    return blurred(_FINE) - blurred(_COARSE)


def _correlation(one: Cells, other: Cells) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
