"""A light brain mask for whole heads of any contrast: a template placed, its surface moved.

1. The MNI152 brain is placed by an affine map (`head_place`).
2. Its surface, a little enlarged, moves along its normals to where bright turns dark: brain to
   skull in T1w and FLAIR, fluid to skull in T2w. Neighbours move alike, sharp edges lead, weak ones
   follow; no point goes far, none past a stretch of bone. Twice, the second time by less.
3. Where fluid is as dark as bone, as in T1w and FLAIR, a rim is added for it. The largest piece is
   kept, its holes filled.

In the manner of Smith's BET (2002), with the template's shape in place of a sphere. It is no
HD-BET: docs/recipe.md has the figures, and a mask that is implausible is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from twinvae.errors import DataError
from twinvae.imaging.resample import Triple, on_other_grid
from twinvae.imaging.steps.head_place import HEAD_SIDE_MM, brain_template, place_in_head, to_cells
from twinvae.imaging.volume import Affine, Bools, Floats

_Values = NDArray[np.float64]
_SIDE_MM = 2.0  # of the cells that the surface moves in
_CLOSED_MM = 8.0  # clefts of the template narrower than twice this are closed
_ENLARGED_MM = 3.0
_RIM_MM = 1.5  # of fluid beyond the surface where fluid is dark
_BRIGHT_RIM = 1.06  # of the brain's inside: a brighter outermost layer is bright fluid
_MOVES_MM = (10, 6)  # how far a point may go, in and out, each time
_FAR = 30.0  # what lies farther from the surface is not told apart, in mm
_POINTS = 6000
_NEIGHBOURS, _NEAR_MM = 40, 12.0
_PULL = 0.03  # of the neighbours' mean, per mm², against an edge of full contrast
_ROUNDS = 15
_WITHIN_MM, _BEYOND_MM = 5, 4  # an edge: the mean within less the mean beyond
_BRIGHT = 1.2  # times the brain; brighter may be fat
_DARK = 0.5  # of the way from brain to bone, over 3 mm: a stretch of bone
_CLEAR_MM = 2  # nearer to the surface, bone may be partial volume
_LEAST_ML, _MOST_ML = 700.0, 2200.0
_LEAST_SIMILAR = 0.15
_LEAST_EDGE = 0.45


@dataclass(frozen=True)
class TemplateMask:
    """A mask and how far to believe it."""

    brain: Bools
    """(X, Y, Z) on the head's grid."""
    similarity: float
    """Mutual information of template and head, in nats."""
    edge: float
    """Mean contrast across the surface: 1 is from brain to black."""


def template_mask(image: Floats, spacing_mm: Triple) -> Bools:
    """The brain in a whole head, bool (X, Y, Z); ``image`` is in RAS+, of any contrast.

    Raises ``DataError`` when the head does not look like one or the mask is implausible.
    """
    found = find_brain(image, spacing_mm)
    check_mask(found, spacing_mm)
    return found.brain


def find_brain(image: Floats, spacing_mm: Triple) -> TemplateMask:
    """The mask, plausible or not; see ``template_mask``."""
    place = place_in_head(image, spacing_mm)
    cells = to_cells(image, spacing_mm, _SIDE_MM)
    depth = _placed(place.affine, cells.shape)
    head = _within(place.head, cells.shape)
    box = _around(depth > -_FAR / 2)
    cells, head, depth = cells[box], head[box], depth[box] + _ENLARGED_MM
    edge = 0.0
    for reach in _MOVES_MM:
        depth, edge = _moved(cells, head, depth, reach)
    rim = _rim(cells, depth)
    start = np.eye(4)
    start[:3, 3] = [-side.start * _SIDE_MM for side in box]
    x, y, z = image.shape
    sides = (_SIDE_MM,) * 3
    # Outside the cells the depth reads as zero, which must be no brain.
    inside = on_other_grid(depth + _FAR, sides, start, (x, y, z), spacing_mm) > _FAR - rim
    return TemplateMask(_one_piece(inside), place.similarity, edge)


@cache
def _template_depth() -> Floats:
    """How deep inside the template's brain each cell of 2 mm lies, in mm; outside negative."""
    _, brain = brain_template().on(_SIDE_MM)
    margin = int(_CLOSED_MM / _SIDE_MM) + 1
    brain = np.pad(brain, margin)
    grown = _depth(brain) > -_CLOSED_MM
    brain = ndimage.binary_fill_holes((_depth(grown) > _CLOSED_MM) | brain)
    inner = slice(margin, -margin)
    depth: Floats = _depth(brain)[inner, inner, inner]
    return depth


def _within(head: Bools, shape: tuple[int, ...]) -> Floats:
    """How much of the head each cell is of, less its skin: that turns dark towards the air."""
    x, y, z = shape
    bare = ndimage.binary_erosion(head, border_value=1)
    sides, coarse = (_SIDE_MM,) * 3, (HEAD_SIDE_MM,) * 3
    return on_other_grid(bare, coarse, np.eye(4), (x, y, z), sides)


def _depth(inside: Bools) -> Floats:
    """Signed distance from the surface between cells, in mm; inside positive."""
    within = ndimage.distance_transform_edt(inside)
    beyond = ndimage.distance_transform_edt(~inside)
    distance = np.where(inside, within - 0.5, 0.5 - beyond) * _SIDE_MM
    depth: Floats = np.clip(distance, -_FAR, _FAR).astype(np.float32)
    return depth


def _placed(affine: Affine, shape: tuple[int, ...]) -> Floats:
    """The depth in the placed template, on the head's cells."""
    sides = (_SIDE_MM,) * 3
    x, y, z = shape
    back = np.asarray(np.linalg.inv(affine), np.float64)
    inside = on_other_grid(_template_depth() + _FAR, sides, back, (x, y, z), sides) > _FAR
    if not inside.any():
        raise DataError("expected a whole head, found that the template does not lie in it")
    return _depth(inside)


def _around(mask: Bools) -> tuple[slice, slice, slice]:
    x, y, z = ndimage.find_objects(mask.astype(np.uint8))[0]
    return x, y, z


def _moved(cells: Floats, head: Floats, depth: Floats, reach: int) -> tuple[Floats, float]:
    """The depth below the moved surface, and the mean contrast across it."""
    points, normals = _surface(depth)
    tree = cKDTree(points * _SIDE_MM)
    distance, near = tree.query(points * _SIDE_MM, k=min(_NEIGHBOURS, len(points)))
    weight = np.exp(-0.5 * (distance / _NEAR_MM) ** 2)
    profiles = _profiles(cells, head, points, normals, reach, near)
    steps, edges = _edges(profiles, reach)
    shift, strength = np.zeros(len(points)), np.ones(len(points))
    rows = np.arange(len(points))

    def neighbours() -> _Values:
        share = weight * strength[near]
        mean: _Values = (share * shift[near]).sum(1) / share.sum(1)
        return mean

    cost = (steps / (20.0 * 1.414)) ** 2 - edges
    for turn in range(_ROUNDS):
        pull = _PULL * min(1.0, (turn + 1) / 5)
        best = (cost + pull * (steps - neighbours()[:, None]) ** 2).argmin(1)
        shift, strength = steps[best], np.clip(edges[rows, best], 0.02, 1)
    return depth + _spread(points, neighbours(), depth.shape), float(strength.mean())


def _rim(cells: Floats, depth: Floats) -> float:
    """How far the fluid goes on beyond the surface, in mm."""
    layer, inner = cells[(depth > 0) & (depth < 3)], cells[depth > 8]
    if not layer.size or not inner.size:
        raise DataError("expected a whole head that the template fits, found no room for a brain")
    return 0.0 if np.median(layer) > _BRIGHT_RIM * np.median(inner) else _RIM_MM


def _surface(depth: Floats) -> tuple[_Values, _Values]:
    """Places of points on it, in cells, and its outward normals there, both (n, 3)."""
    smooth = ndimage.gaussian_filter(depth, 1.0)
    band = np.abs(smooth) < _SIDE_MM / 2
    inward = np.stack([slope[band] for slope in np.gradient(smooth)], 1).astype(np.float64)
    inward /= np.linalg.norm(inward, axis=1, keepdims=True) + 1e-9
    off = smooth[band][:, None].astype(np.float64) / _SIDE_MM
    points = np.argwhere(band) - off * inward
    every = max(1, len(points) // _POINTS)
    return points[::every], -inward[::every]


def _profiles(
    cells: Floats,
    head: Floats,
    points: _Values,
    normals: _Values,
    reach: int,
    near: NDArray[np.intp],
) -> _Values:
    """Intensities along the normals, a value a mm: 0 is as dark as bone, 1 as bright as brain.

    The air outside the head is no bone: it counts as bright.
    """

    def along(steps: NDArray[np.float64], what: Floats = cells) -> _Values:
        at = points[:, :, None] + normals[:, :, None] * (steps / _SIDE_MM)
        values: _Values = ndimage.map_coordinates(what, at.transpose(1, 0, 2), order=1)
        return values

    steps = np.arange(-reach - _WITHIN_MM, reach + _BEYOND_MM + 1.0)
    profiles = along(steps)
    within = np.median(along(-np.arange(4, 20, 2.0)), axis=1)
    brain = np.median(within[near], axis=1)
    dark = np.median(np.percentile(profiles[:, steps >= 0], 10, axis=1)[near], axis=1)
    dark = np.minimum(dark, 0.5 * brain)
    scaled: _Values = (profiles - dark[:, None]) / np.maximum(brain - dark, 1e-9)[:, None]
    inside = along(steps, head)
    return inside * np.maximum(scaled, 0) + 1 - inside


def _edges(profiles: _Values, reach: int) -> tuple[_Values, _Values]:
    """Steps from the surface in mm, (k,), and how much darker it is beyond than within, (n, k).

    What is brighter than brain may be fat, and what lies past a dark stretch, scalp: both count
    for less.
    """
    likely = np.where(profiles < _BRIGHT, profiles, np.maximum(2 * _BRIGHT - profiles, 0))
    at = _WITHIN_MM + np.arange(2 * reach + 1) + 1
    within = _means(likely, at - _WITHIN_MM, _WITHIN_MM)
    beyond = _means(np.minimum(profiles, 1.1), at, _BEYOND_MM)
    dark = 1 - _means(np.minimum(profiles, 1.1), np.arange(profiles.shape[1] - 2), 3)
    passed = np.maximum.accumulate(np.clip(dark - _DARK, 0, None), axis=1)[:, at - 3 - _CLEAR_MM]
    return np.arange(-reach, reach + 1, dtype=np.float64) + 0.5, within - beyond - passed


def _means(profiles: _Values, first: NDArray[np.int64], count: int) -> _Values:
    """Over ``count`` values from each of ``first`` on."""
    total = np.concatenate([np.zeros((len(profiles), 1)), np.cumsum(profiles, 1)], 1)
    means: _Values = (total[:, first + count] - total[:, first]) / count
    return means


def _spread(points: _Values, shift: _Values, shape: tuple[int, ...]) -> Floats:
    """The points' shifts as a smooth field, zero far from any."""
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    at = tuple(np.clip(np.rint(points).astype(int), 0, np.array(shape) - 1).T)
    np.add.at(total, at, shift.astype(np.float32))
    np.add.at(count, at, 1)
    total, count = (ndimage.gaussian_filter(one, 2.5, truncate=5) for one in (total, count))
    field: Floats = np.where(count > 1e-6, total / np.maximum(count, 1e-6), 0).astype(np.float32)
    return field


def _one_piece(inside: Bools) -> Bools:
    """The largest piece, its holes filled."""
    labels, _ = ndimage.label(inside)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    filled: Bools = ndimage.binary_fill_holes(labels == sizes.argmax()) & (sizes.max() > 0)
    return filled


def check_mask(found: TemplateMask, spacing_mm: Triple) -> None:
    """Raise ``DataError`` where the mask is no brain's."""
    volume = float(np.prod(spacing_mm)) * np.count_nonzero(found.brain) / 1000
    reasons = []
    if not _LEAST_ML <= volume <= _MOST_ML:
        reasons.append(
            f"a mask of {volume:.0f} ml, expected {_LEAST_ML:.0f} to {_MOST_ML:.0f} (does the "
            f"header have the right voxel size?)"
        )
    if found.similarity < _LEAST_SIMILAR:
        reasons.append(
            f"a similarity (mutual information) of {found.similarity:.2f}, expected at least "
            f"{_LEAST_SIMILAR:g}"
        )
    if found.edge < _LEAST_EDGE:
        reasons.append(
            f"a contrast of {found.edge:.2f} across the mask's surface, expected at least "
            f"{_LEAST_EDGE:g}"
        )
    if all(found.brain.take([0, -1], axis=axis).any(axis=(0, 1, 2)) for axis in (0, 1)):
        reasons.append("a mask that runs into the borders of the picture, expected a head around")
    if reasons:
        raise DataError(f"expected a whole head that the template fits, found {'; '.join(reasons)}")
