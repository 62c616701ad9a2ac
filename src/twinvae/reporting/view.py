"""A scan and its maps as the page's viewer gets them: cut to the brain, 8 bits a voxel, gzipped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from twinvae.files import gzipped
from twinvae.reporting.pictures import HEAT

Floats = npt.NDArray[np.float32]
Voxel = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Look = Literal["grey", "signed", "heat", "mask"]

LEVELS = 254
"""A byte of a layer is its value between ``low`` (0) and ``high`` (this); so 0 has a byte of its
own where ``low`` is −``high``."""
_MARGIN_MM = 4.0  # of what surrounds the brain
_FINEST_MM = 1.0  # a scan of smaller voxels is thinned out,
_FINEST_MAP_MM = 2.0  # and so is a map, which the networks saw in no finer detail


@dataclass(frozen=True)
class Layer:
    """A volume to be shown."""

    key: str
    label: str
    values: npt.NDArray[Any]
    """(X, Y, Z), float or bool; the axes point right, anterior, superior."""
    low: float
    """Values up to this are shown as the lowest."""
    high: float
    look: Look
    unit: str = ""


@dataclass(frozen=True)
class View:
    """The scan, first, and what can be laid over it, all on one grid."""

    layers: Sequence[Layer]
    brain: npt.NDArray[np.bool_]
    """(X, Y, Z)."""
    affine: npt.NDArray[np.float64]
    """(4, 4), from voxels to mm in the world (RAS)."""
    slices: Mapping[int, int]
    """Number of each slice that was judged → its voxel along z."""
    start: Voxel
    """What is looked at first."""

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """Voxel size along x, y, z."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0), np.float64)


def view_data(view: View) -> dict[str, Any]:
    """The view for the page, ready for JSON; voxels are counted from the box cut out."""
    box = _box(view)
    corner = np.array([side.start for side in box], float)
    affine = view.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ corner
    return {
        "shape": [side.stop - side.start for side in box],
        "spacing": view.spacing_mm.round(6).tolist(),
        "affine": affine[:3].round(6).tolist(),
        "corner": [side.start for side in box],
        "start": list(in_box(view, view.start)),
        "slices": [[number, z - box[2].start] for number, z in sorted(view.slices.items())],
        "levels": LEVELS,
        "heat": HEAT,
        "layers": [_layer(view, layer, box) for layer in view.layers],
    }


def in_box(view: View, voxel: Sequence[int]) -> Voxel:
    """A voxel of the view's grid, counted from the box cut out; the nearest one inside it."""
    x, y, z = (
        int(np.clip(at - side.start, 0, side.stop - side.start - 1))
        for at, side in zip(voxel, _box(view), strict=True)
    )
    return x, y, z


def _box(view: View) -> Box:
    """The brain's bounding box and what lies around it; everything where there is no brain."""
    sides = []
    for axis, spacing in enumerate(view.spacing_mm):
        others = tuple(a for a in range(3) if a != axis)
        inside = np.flatnonzero(view.brain.any(axis=others))
        size, margin = view.brain.shape[axis], int(np.ceil(_MARGIN_MM / spacing))
        low, high = (inside[0], inside[-1]) if len(inside) else (0, size - 1)
        sides.append(slice(max(0, int(low) - margin), min(size, int(high) + margin + 1)))
    return sides[0], sides[1], sides[2]


def _layer(view: View, layer: Layer, box: Box) -> dict[str, Any]:
    finest = _FINEST_MM if layer.look == "grey" and layer is view.layers[0] else _FINEST_MAP_MM
    steps = [max(1, int(finest / spacing + 0.01)) for spacing in view.spacing_mm]
    values = layer.values[box][:: steps[0], :: steps[1], :: steps[2]].astype(np.float32)
    share = (values - layer.low) / (layer.high - layer.low)
    stored = np.rint(np.clip(share, 0, 1) * LEVELS).astype(np.uint8)
    packed = gzipped(stored.tobytes(order="F"))
    return {
        "key": layer.key,
        "label": layer.label,
        "look": layer.look,
        "unit": layer.unit,
        "low": float(layer.low),
        "high": float(layer.high),
        "shape": list(stored.shape),
        "step": steps,
        "data": base64.b64encode(packed).decode("ascii"),
    }
