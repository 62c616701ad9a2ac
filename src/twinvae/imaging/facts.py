"""One scan's numbers for quality control, noted while it goes through the recipe."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.files import file_and_volume
from twinvae.imaging.nifti import nifti_header
from twinvae.imaging.scan import Working, brighter_turn
from twinvae.imaging.volume import Floats

Facts = dict[str, float | str]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's constants
_ODD2 = np.uint64(0xBF58476D1CE4E5B9)


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
        self.facts |= _orientation(scan.files.image, scan.own_shape)
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


def content_hash(data: Floats) -> str:
    """The same for the same voxels in any file format, flipped, with axes swapped, or padded by 0.

    ``data``: (X, Y, Z). Each value is scrambled to 64 bits; the sums over planes across each axis,
    read from either end, do not depend on how the axes lie.
    """
    if data.flags.f_contiguous:
        data = data.T  # planes that are together in memory
    sums = [np.zeros(n, np.uint64) for n in data.shape]
    for i, plane in enumerate(data):
        rows = np.flatnonzero(plane.any(axis=1))
        if not len(rows):
            continue
        span = slice(rows[0], rows[-1] + 1)
        scrambled = _scrambled(plane[span])
        lines = scrambled.sum(axis=1)
        sums[0][i] = lines.sum()
        sums[1][span] += lines
        sums[2] += scrambled.sum(axis=0)
    return hashlib.sha256(b"".join(sorted(map(_either_way, sums)))).hexdigest()[:16]


def _orientation(path: Path, shape: tuple[int, ...]) -> dict[str, float]:
    """The codes of qform and sform and, when both are set, how far apart they put voxels.

    ``forms_apart_mm``: the largest distance at the volume's corners; ``forms_mirror``: 1 when one
    is the mirror image of the other. Empty for other formats, which say it once.
    """
    file, _ = file_and_volume(path)
    if not file.name.lower().endswith((".nii", ".nii.gz")):
        return {}
    header = nifti_header(file)
    facts = {name: float(header[name]) for name in ("qform_code", "sform_code")}
    if facts["qform_code"] > 0 and facts["sform_code"] > 0:
        q, s = header.get_qform(), header.get_sform()
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= np.array(shape[:3]) - 1
        apart = np.linalg.norm((corners @ (q - s).T)[:, :3], axis=1).max()
        facts["forms_apart_mm"] = round(float(apart), 3)
        mirror = np.linalg.det(q[:3, :3]) * np.linalg.det(s[:3, :3]) < 0
        facts["forms_mirror"] = float(mirror)
    return facts


def _scrambled(plane: Floats) -> NDArray[np.uint64]:
    """64 bits a value; 0 for 0."""
    bits = np.ascontiguousarray(plane + np.float32(0)).view(np.uint32)  # −0 becomes 0
    out = bits.astype(np.uint64)
    out *= _ODD
    out ^= out >> np.uint64(29)
    out *= _ODD2
    out ^= out >> np.uint64(32)
    return out


def _either_way(sums: NDArray[Any]) -> bytes:
    """The sums from end to end, whichever end comes first."""
    full = np.flatnonzero(sums)
    cut = sums[full[0] : full[-1] + 1] if len(full) else sums[:0]
    return bytes(min(cut.tobytes(), cut[::-1].tobytes()))


def _rounded(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")
