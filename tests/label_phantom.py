"""A label map in FreeSurfer's numbers: nested ellipsoids, every landmark in its place."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

# Centres (x of the left side, y, z) and radii in mm; left label, right label.
_STRUCTURES = [
    (8, 47, (-22, -62, -36), (20, 18, 13)),
    (16, 16, (0, -29, -33), (11, 10, 22)),
    (4, 43, (-10, -8, 16), (6, 24, 8)),
    (10, 49, (-11, -19, 7), (7, 11, 8)),
    (11, 50, (-17, 14, 6), (4, 7, 7)),
    (12, 51, (-26, 2, 0), (5, 12, 8)),
    (13, 52, (-19, -6, -2), (3, 6, 5)),
    (17, 53, (-26, -22, -14), (5, 12, 5)),
    (18, 54, (-23, -5, -19), (6, 6, 6)),
]


def labels(
    shift: tuple[float, float, float] = (0, 0, 0), scale: float = 1.0, step: int = 2
) -> np.ndarray:
    """A head of 170 × 200 × 170 mm in voxels of ``step`` mm, ``shift`` mm off MNI space."""
    x, y, z = np.ogrid[-85:85:step, -115:85:step, -85:85:step]
    x, y, z = ((a - s) / scale for a, s in zip((x, y, z), shift, strict=True))
    out = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.int16)

    def fill(centre, radii, left, right, wavy=0.0):
        u, v, w = ((a - c) / r for a, c, r in zip((x, y, z), centre, radii, strict=True))
        angle = np.arctan2(v, u)
        inside = u**2 + v**2 + w**2 < (1 + wavy * np.cos(14 * angle)) ** 2
        out[inside] = np.where(np.broadcast_to(x < 0, out.shape)[inside], left, right)

    brain = (0, -18, 10)
    fill(brain, (72, 90, 66), 24, 24)
    fill(brain, (68, 86, 62), 3, 42, wavy=0.03)
    fill(brain, (62, 80, 56), 2, 41, wavy=0.06)
    for left, right, (cx, cy, cz), radii in _STRUCTURES:
        for side, label in ((1, left), (-1, right)):
            fill((side * cx, cy, cz), radii, label, label)
    return out


def affine_of(step: int) -> np.ndarray:
    """Where ``labels`` with this ``step`` lie."""
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = (-85, -115, -85)
    return affine


def write_labels(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Save label numbers, by default where ``labels`` says they are."""
    affine = affine_of(2) if affine is None else affine
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path
