"""A small brain in RAS+ with a face of its own: no flip or swap of its axes looks the same."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from twinvae.config import BrainMask, CropResize, PercentileScale, Reorient, SelectSlices

STEPS = (
    Reorient(),
    BrainMask(),
    PercentileScale(low=0, high=99.5, level=0.8),
    SelectSlices(keep="brain", min_area_mm2=300),
    CropResize(field_of_view_mm=96, size=32),
)


@dataclass
class Brain:
    """Arrays (X, Y, Z), x to the right, y to the front, z up; zero outside the brain."""

    image: np.ndarray
    mask: np.ndarray
    tumour: np.ndarray
    affine: np.ndarray


def make_brain(seed=0, shape=(36, 44, 24), spacing=(2.0, 2.0, 3.0)):
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    centre = np.array([18.5, 20.0, 11.0]) + rng.uniform(-1, 1, 3)
    radius = np.array([13.0, 17.0, 9.0])
    place = [(g - c) / r for g, c, r in zip(grid, centre, radius, strict=True)]
    mask = sum(p**2 for p in place) < 1
    image = 300 + 60 * place[0] + 120 * place[1] - 45 * place[2] + rng.integers(0, 40, shape)
    tumour = ((place[0] - 0.45) ** 2 + (place[1] - 0.2) ** 2 + place[2] ** 2) < 0.06
    image = np.rint(np.where(mask, image + 150 * tumour, 0))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-35, -41, -20]
    return Brain(image, mask, tumour & mask, affine)


def save(path, data, affine, dtype=np.int16, slope=None, inter=0.0):
    """Write NIfTI; with a slope, what is stored is (data − inter) / slope."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if slope is None:
        nib.save(nib.Nifti1Image(np.asarray(data).astype(dtype), affine), path)
        return path
    image = nib.Nifti1Image(np.rint((data - inter) / slope).astype(dtype), affine)
    image.header.set_slope_inter(1, 0)
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(bytes(raw))
    return path
