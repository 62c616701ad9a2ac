"""From tissue to picture: contrast, texture, point spread, bias field, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twinvae.cohort.phantom.anatomy import Tissue
from twinvae.cohort.phantom.fields import FloatArray, smooth_field
from twinvae.vocabulary import Role

_FWHM = 2.3548  # standard deviations in a full width at half maximum


@dataclass(frozen=True)
class Scanner:
    """One subject's scan settings; tissue signals are relative to white matter."""

    grey: float
    csf: float
    iron: float
    """How much darker than cortex the deep nuclei are, per unit of ``Tissue.detail``."""
    texture: float
    """Standard deviation of the signal's slow wander within a tissue, as a share."""
    blur_mm: tuple[float, float, float]
    """Full width at half maximum of the point spread along x, y, z."""
    bias: float
    """Standard deviation of the log of the receive field."""
    noise: float
    """Standard deviation of the noise in each channel, relative to white matter."""
    gain: float
    """Stored units per unit of white matter."""

    fluid_bright: ClassVar[bool] = True
    """Whether a lesion, which holds more water, is brighter than white matter."""

    def level(self, fraction: FloatArray) -> FloatArray:
        """Signal at ``fraction`` of the way from grey matter (0) to CSF (1)."""
        signal: FloatArray = self.grey + fraction * np.float32(self.csf - self.grey)
        return signal


def draw_scanner(rng: np.random.Generator, role: Role) -> Scanner:
    """Settings of one scan.

    The healthy source is one research scanner with a 3D sequence; the mixed source a clinical
    one with thick axial slices, a little more noise and contrast that varies more.
    """
    if role == "healthy":
        return Scanner(
            grey=float(rng.normal(1.4, 0.04)),
            csf=float(rng.normal(4.6, 0.25)),
            iron=float(rng.normal(0.9, 0.1)),
            texture=0.05,
            blur_mm=(1.6, 1.6, 1.6),
            bias=0.06,
            noise=float(rng.uniform(0.015, 0.03)),
            gain=float(rng.uniform(240, 320)),
        )
    thick = float(rng.uniform(2.5, 4.0))
    return Scanner(
        grey=float(rng.normal(1.42, 0.07)),
        csf=float(rng.normal(4.9, 0.45)),
        iron=float(rng.normal(1.1, 0.15)),
        texture=0.06,
        blur_mm=(1.5, 1.5, thick),
        bias=0.045,
        noise=float(rng.uniform(0.02, 0.045)),
        gain=float(rng.uniform(350, 900)),
    )


def tissue_signal(rng: np.random.Generator, tissue: Tissue, scanner: Scanner) -> FloatArray:
    """(n,): noise-free T2w signal of the voxels, relative to white matter."""
    grey, white, csf = tissue.shares
    # Skull stripping leaves dura, bone and vessels on the surface in places, all of them dark.
    dark = smooth_field(rng, tissue.grid, 10.0, 1.0)[0][tissue.inside]
    surface = 1 - np.clip(tissue.rim * (2.0 + 1.2 * dark), 0, 0.95)
    wander = smooth_field(rng, tissue.grid, 6.0, scanner.texture)[0][tissue.inside]
    flow = smooth_field(rng, tissue.grid, 20.0, 0.12)[0][tissue.inside]
    # Cortex varies about twice as much as white matter, with myelin, folding and vessels.
    solid = scanner.grey * grey * (1 + 2 * wander) + white * (1 + wander)
    solid *= np.exp(-scanner.iron * tissue.detail)
    signal: FloatArray = (solid + scanner.csf * csf * (1 + flow)) * surface
    return signal


def take_picture(
    rng: np.random.Generator, tissue: Tissue, signal: FloatArray, scanner: Scanner
) -> npt.NDArray[np.int16]:
    """(X, Y, Z): the skull-stripped volume in stored units; 0 outside the brain mask."""
    volume = np.zeros(tissue.grid.shape, dtype=np.float32)
    volume[tissue.inside] = signal
    sigma = [extra_blur(w, tissue.grid.spacing_mm) for w in scanner.blur_mm]
    volume = ndimage.gaussian_filter(volume, sigma, truncate=2.5)[tissue.inside][tissue.brain]
    bias = smooth_field(rng, tissue.grid, 80.0, scanner.bias)[0][tissue.inside][tissue.brain]
    volume *= np.exp(bias)
    noise = rng.standard_normal((2, volume.size), dtype=np.float32) * np.float32(scanner.noise)
    rician = np.hypot(volume + noise[0], noise[1]) * np.float32(scanner.gain)
    picture = np.zeros(tissue.grid.shape, dtype=np.int16)
    mask = brain_mask(tissue)
    picture[mask] = np.clip(np.rint(rician), 1, 32767).astype(np.int16)
    return picture


def brain_mask(tissue: Tissue) -> npt.NDArray[np.bool_]:
    """(X, Y, Z): the brain without its rim."""
    mask = np.zeros(tissue.grid.shape, dtype=np.bool_)
    mask[tissue.inside] = tissue.brain
    return mask


def extra_blur(width_mm: float, spacing_mm: float) -> float:
    """Standard deviation in voxels; a voxel itself blurs by about 0.4 of its size (FWHM)."""
    own = 0.4 * spacing_mm
    return float(np.sqrt(max(width_mm**2 - own**2, 0.0)) / _FWHM / spacing_mm)
