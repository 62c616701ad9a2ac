"""The mirror image of a brain in three dimensions: what lies at the same place of its other half.

First the mid-sagittal plane: the reflection under which the whole stack is most like itself. Then a
smooth deformation, for two halves never lie quite alike. Both are found on cubic cells, by losses
that large differences cannot move: the mass of a tumour must neither tilt the plane nor be pulled
onto the healthy half. Truncated differences: Huber, Robust Statistics (1981); the rational loss:
Geman and McClure, Bull Int Stat Inst 52 (1987) 5; control points: Rueckert et al., IEEE Trans Med
Imaging 18 (1999) 712.

Nothing is drawn at random, and sums come in one order: numpy and scipy's own loops, no BLAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize
from scipy.sparse import csr_array

from twinvae.imaging.resample import apply_taps, resampling_taps
from twinvae.imaging.volume import Bools, Floats
from twinvae.vocabulary import FULL_SCALE

Numbers = NDArray[np.float64]

_CELL_MM = 4.0
_BLUR = 0.5  # standard deviation, in cells
_HEIGHT = 0.75  # of a brain, as a share of its length; headers are often wrong about slices
_LEAST_MM = 20.0  # height of a stack that is taken as a volume,
_GAP_MM = 15.0  # and its largest distance between slices: else each slice is reflected by itself
_MOST = 0.35  # truncation of differences, as a share of the brain's contrast
_UNITS = np.array([1.0, 0.07, 0.07])  # first steps: a cell, and 4 degrees twice
_HALF = 0.05  # square of the difference, in contrasts, at which the loss is half
_STIFF = 0.02  # weight of squared differences, in mm², of neighbouring control points
_STEPS = 25
_CORNERS = tuple(product((0, 1), repeat=3))


def aligned_mirror(
    images: Floats,
    brain: Bools,
    position: Numbers,
    pixel_mm: float,
    *,
    control_mm: float = 20.0,
    limit_mm: float = 8.0,
    deform: bool = True,
) -> Floats:
    """At each brain pixel, the intensity at the same place of the other half; else 0.

    ``images``: float32 (n, H, W) in [0, 1], columns from one side of the head to the other;
    ``brain``: bool (n, H, W); ``position``: (n,) rising, 0 at the brain's lowest slice and 1 at its
    highest; ``pixel_mm``: side of a pixel. Returns float32 (n, H, W) in [0, 1]: above 0 where the
    other half has brain, 0 elsewhere. ``control_mm`` is the distance of the control points,
    ``limit_mm`` how far each may move along each axis; without ``deform`` none does. Slices that
    are few or far apart are reflected each by itself. The same input gives the same bits.
    Raises ``ValueError`` when ``position`` does not rise.
    """
    out = np.zeros(images.shape, np.float32)
    if not brain.any():
        return out
    heights = _heights(brain, position, pixel_mm) / _CELL_MM
    for part in _parts(heights):
        if brain[part].any():
            stack = Stack(images[part], brain[part], heights[part], pixel_mm / _CELL_MM)
            coarse = stack.coarse()
            plane = coarse.plane()
            moves = coarse.deformation(plane, control_mm, limit_mm) if deform else None
            out[part] = stack.reflected(plane, moves)
    return out


@dataclass(frozen=True)
class Plane:
    """A mid-sagittal plane; places are (z, y, x) in cells."""

    through: Numbers
    """A place on it, (3,)."""
    yaw: float
    """Turn about z from the picture's columns, in radians."""
    roll: float
    """Turn about y, in radians."""

    def reflect(self, places: Numbers) -> Numbers:
        """The mirror images of ``places``, (3, m)."""
        across = np.cos(self.roll)
        normal = (np.sin(self.roll), across * np.sin(self.yaw), across * np.cos(self.yaw))
        away = sum(n * (p - t) for n, p, t in zip(normal, places, self.through, strict=True))
        return np.stack([p - 2 * n * away for n, p in zip(normal, places, strict=True)])


@dataclass(frozen=True)
class Coarse:
    """A stack on cubic cells of 4 mm, blurred; the first slice lies at z = 0."""

    values: Floats
    """(Z, Y, X)."""
    brain: Bools
    """(Z, Y, X); cells that are at least half brain."""

    def plane(self) -> Plane:
        """The plane about which the brain is most like its mirror image.

        The mean truncated difference is brought to its least by Nelder and Mead's simplex, from
        the middle of the brain.
        """
        at, own = self._points()
        most, middle = _MOST * _contrast(own), at.mean(axis=1)
        free = 3 if len(self.values) > 1 else 2  # one layer says nothing of the roll

        def at_steps(steps: Numbers) -> Plane:
            offset, yaw, roll = _UNITS * np.pad(steps, (0, 3 - free))
            return Plane(middle + np.array([0, 0, offset]), float(yaw), float(roll))

        def unlike(steps: Numbers) -> float:
            other = _sampled(self.values, at_steps(steps).reflect(at))
            return float(np.minimum(np.abs(other - own), most).mean())

        simplex = np.vstack([np.zeros(free), np.eye(free)])
        tight = {"initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-6, "maxiter": 120}
        found = minimize(unlike, np.zeros(free), method="Nelder-Mead", options=tight)
        return at_steps(found.x)

    def deformation(self, plane: Plane, control_mm: float, limit_mm: float) -> Numbers:
        """How far, in cells, to go on from a place's reflection: (3, Z', Y', X') control points.

        They span the cells, the first and last at the ends of each axis.
        """
        at, own = self._points()
        cells, mirrored = np.array(self.values.shape), plane.reflect(at)
        control = np.minimum(cells, np.maximum(2, np.rint((cells - 1) * _CELL_MM / control_mm) + 1))
        shape = (3, *control.astype(np.int64).tolist())
        spread = _spread(at, cells, np.array(shape[1:]))
        gather = spread.T.tocsr()
        contrast = max(_contrast(own), 1 / FULL_SCALE)

        def loss(flat: Numbers) -> tuple[float, Numbers]:
            moves = np.stack([spread @ along for along in flat.reshape(3, -1)])
            other, slopes = _with_slopes(self.values, mirrored + moves / _CELL_MM)
            unlike = (other - own) / contrast
            soft = np.square(unlike) + _HALF
            pull = 2 * _HALF * unlike / np.square(soft) / (len(own) * contrast * _CELL_MM)
            bent, straighten = _stiffness(flat.reshape(shape))
            gradient = np.concatenate([gather @ (pull * slope) for slope in slopes])
            value = 1 - float((_HALF / soft).mean()) + _STIFF * bent
            return value, gradient + _STIFF * straighten.ravel()

        reach = np.full(shape, limit_mm)
        reach[0] *= cells[0] > 1  # a slice alone moves within itself
        found = minimize(
            loss,
            np.zeros(reach.size),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([-reach.ravel(), reach.ravel()], axis=1),
            options={"maxiter": _STEPS},
        )
        moves: Numbers = found.x.reshape(shape) / _CELL_MM
        return moves

    def _points(self) -> tuple[Numbers, Numbers]:
        """The brain's cells, (3, m), and their values, (m,)."""
        at = np.argwhere(self.brain).T.astype(np.float64)
        return at, self.values[self.brain].astype(np.float64)


@dataclass(frozen=True)
class Stack:
    """Slices as they are, (n, H, W), and where they lie: heights (n,) and pixels in cells."""

    images: Floats
    brain: Bools
    heights: Numbers
    pixel: float

    @property
    def cells(self) -> NDArray[np.int64]:
        """How many cells hold the stack, along z, y and x."""
        tall = round(float(self.heights[-1] - self.heights[0])) + 1
        wide = np.ceil(np.array(self.images.shape[1:]) * self.pixel)
        return np.array([tall, *wide], np.int64)

    def coarse(self) -> Coarse:
        """The slices on cubic cells; if none is half brain, those with any are the brain."""
        mean, cover = self._on_cells(self.images * self.brain), self._on_cells(self.brain)
        sigma = (_BLUR if len(mean) > 1 else 0.0, _BLUR, _BLUR)
        inside = cover >= 0.5
        return Coarse(gaussian_filter(mean, sigma), inside if inside.any() else cover > 0)

    def reflected(self, plane: Plane, moves: Numbers | None) -> Floats:
        """The slices reflected, then moved, (n, H, W); 0 where the other half has no brain."""
        at = np.nonzero(self.brain)
        heights = self.heights - self.heights[0]
        cells = np.stack([heights[at[0]], *((i + 0.5) * self.pixel - 0.5 for i in at[1:])])
        places = plane.reflect(cells)
        if moves is not None:
            control = _in_steps(cells, self.cells, np.array(moves.shape[1:]))
            places += np.stack([_sampled(along, control) for along in moves])
        there = (places[0] > -1) & (places[0] < heights[-1] + 1)
        places[0] = np.interp(places[0], heights, np.arange(len(heights)))
        places[1:] = (places[1:] + 0.5) / self.pixel - 0.5
        cover = _sampled(self.brain.astype(np.float32), places)
        there &= cover >= 0.5
        values = _sampled(self.images * self.brain, places)[there] / cover[there]
        out = np.zeros(self.images.shape, np.float32)
        out[tuple(i[there] for i in at)] = np.clip(values, 1 / FULL_SCALE, 1)
        return out

    def _on_cells(self, slices: NDArray[np.generic]) -> Floats:
        """Slices (n, H, W) averaged over cells, (Z, Y, X); along z interpolated if far apart."""
        tall, *wide = self.cells
        for axis, count in enumerate(wide, start=1):
            taps = resampling_taps(slices.shape[axis], 0.0, 1 / self.pixel, int(count))
            slices = apply_taps(slices, taps, axis)
        heights = self.heights - self.heights[0]
        width = max(1.0, float(np.diff(heights).max(initial=0.0)))
        weight = np.maximum(0, 1 - np.abs(np.arange(tall)[:, None] - heights) / width)
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        layers = csr_array(weight.astype(np.float32)) @ slices.reshape(len(slices), -1)
        return np.asarray(layers, np.float32).reshape(tall, *wide)


def _heights(brain: Bools, position: Numbers, pixel_mm: float) -> Numbers:
    """Where slices lie along z, in mm, by the brain's length: headers are often wrong."""
    if (np.diff(position) <= 0).any():
        raise ValueError(f"expected positions that rise, found {np.asarray(position).tolist()}")
    rows = np.flatnonzero(brain.any(axis=(0, 2)))
    length = float(rows[-1] - rows[0] + 1) * pixel_mm
    return np.asarray(position, np.float64) * (_HEIGHT * length)


def _parts(heights: Numbers) -> list[slice]:
    """What is reflected together, given heights in cells: the whole stack, or each slice."""
    tall, gap = heights[-1] - heights[0], np.diff(heights).max(initial=0.0)
    if tall * _CELL_MM >= _LEAST_MM and gap * _CELL_MM <= _GAP_MM:
        return [slice(0, len(heights))]
    return [slice(i, i + 1) for i in range(len(heights))]


def _in_steps(at: Numbers, cells: NDArray[np.int64], control: NDArray[np.int64]) -> Numbers:
    """Places (3, m) in cells, counted in control points instead."""
    scale: Numbers = (control - 1) / np.maximum(cells - 1, 1)
    return at * scale[:, None]


def _contrast(values: Numbers) -> float:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)


def _sampled(volume: NDArray[np.floating], places: Numbers) -> Numbers:
    """Interpolate ``volume`` linearly at ``places`` (3, m); beyond its ends as at the ends."""
    found: Numbers = map_coordinates(volume, places, np.float64, order=1, mode="nearest")
    return found


def _corners(places: Numbers, shape: NDArray[np.int64]) -> tuple[NDArray[np.int64], Numbers]:
    """For each axis, the lower neighbours (3, m) of ``places`` and the way from them, in [0, 1]."""
    last = np.maximum(shape - 2, 0)[:, None]
    low = np.clip(np.floor(places), 0, last).astype(np.int64)
    return low, np.clip(places - low, 0, 1)


def _spread(at: Numbers, cells: NDArray[np.int64], control: NDArray[np.int64]) -> csr_array:
    """The matrix (m, control points) that interpolates control points linearly at ``at``."""
    low, part = _corners(_in_steps(at, cells, control), control)
    columns, weights = [], []
    for corner in _CORNERS:
        index = np.minimum(low + np.array(corner)[:, None], control[:, None] - 1)
        columns.append(np.ravel_multi_index(tuple(index), tuple(control)))
        weights.append(
            np.prod([p if c else 1 - p for c, p in zip(corner, part, strict=True)], axis=0)
        )
    rows = np.tile(np.arange(at.shape[1]), 8)
    size = (at.shape[1], int(control.prod()))
    return csr_array((np.concatenate(weights), (rows, np.concatenate(columns))), shape=size)


def _with_slopes(volume: Floats, places: Numbers) -> tuple[Numbers, list[Numbers]]:
    """``_sampled``, and its derivatives along z, y and x."""
    shape = np.array(volume.shape)
    low, part = _corners(places, shape)
    ends = np.stack([low, np.minimum(low + 1, shape[:, None] - 1)])
    corner = {c: volume[tuple(ends[c, range(3)])].astype(np.float64) for c in _CORNERS}
    weight = np.stack([1 - part, part])
    value = np.zeros(places.shape[1])
    slopes = [np.zeros(places.shape[1]) for _ in range(3)]
    for c, found in corner.items():
        value += found * weight[c[0], 0] * weight[c[1], 1] * weight[c[2], 2]
        for axis in range(3):
            a, b = (weight[c[i], i] for i in range(3) if i != axis)
            slopes[axis] += found * a * b * (1 if c[axis] else -1)
    outside = (places < 0) | (places > (shape - 1)[:, None])
    return value, [np.where(out, 0, slope) for out, slope in zip(outside, slopes, strict=True)]


def _stiffness(moves: Numbers) -> tuple[float, Numbers]:
    """Mean square differences of neighbours along each axis of (3, Z, Y, X), summed; its slope."""
    total, slope = 0.0, np.zeros_like(moves)
    for axis in (1, 2, 3):
        step = np.diff(moves, axis=axis)
        if step.size:
            total += float(np.square(step).mean())
            pull = 2 * step / step.size
            slope += np.diff(pull, axis=axis, prepend=0, append=0) * -1
    return total, slope
