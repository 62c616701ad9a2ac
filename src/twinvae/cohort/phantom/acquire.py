"""From a clean signal to a stored scan: slices, point spread, receive field, noise, scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from twinvae.cohort.phantom.anatomy import Tissue
from twinvae.cohort.phantom.fields import FloatArray, smooth_field
from twinvae.cohort.phantom.scanner import brain_mask, extra_blur
from twinvae.config import PhantomContrast


@dataclass(frozen=True)
class Acquisition:
    """How one scan was taken and stored."""

    in_plane_mm: float
    """Full width at half maximum of the point spread along x and y."""
    slice_mm: float
    """Thickness and distance of the axial slices."""
    offset: float
    """Where the first slice lies, as a share of ``slice_mm``."""
    bias: float
    """Standard deviation of the log of the receive field."""
    noise: float
    """Standard deviation of the noise in each channel, relative to white matter."""
    gamma: float
    """Exponent of the scanner's intensity curve."""
    gain: float
    """Stored units per unit of white matter."""


def draw_acquisition(rng: np.random.Generator, contrast: PhantomContrast) -> Acquisition:
    """Draw a scanner: half of the T1w and a third of the other scans are 3D, near isotropic."""
    volumetric = rng.random() < (0.5 if contrast == "T1w" else 0.33)
    thick = rng.uniform(1.0, 1.6) if volumetric else rng.uniform(2.0, 6.0)
    return Acquisition(
        in_plane_mm=float(rng.uniform(0.9, 1.8)),
        slice_mm=float(thick),
        offset=float(rng.random()),
        bias=float(rng.uniform(0.02, 0.10)),
        noise=float(rng.uniform(0.008, 0.035)),
        gamma=float(np.exp(rng.normal(0, 0.08))),
        gain=float(np.exp(rng.uniform(np.log(150), np.log(900)))),
    )


def acquire(
    rng: np.random.Generator, tissue: Tissue, signal: FloatArray, how: Acquisition
) -> npt.NDArray[np.int16]:
    """(X, Y, Z): the skull-stripped scan in stored units, 0 outside the brain, of ``signal`` (n,).

    Noise arises in the slices as they were acquired, hence before they are interpolated.
    """
    grid = tissue.grid
    volume = np.zeros(grid.shape, dtype=np.float32)
    volume[tissue.inside] = signal
    volume *= np.exp(smooth_field(rng, grid, 80.0, how.bias)[0])
    sigma = extra_blur(how.in_plane_mm, grid.spacing_mm)
    volume = ndimage.gaussian_filter(volume, (sigma, sigma, 0), truncate=2.5)
    sample, interpolate = _slices(grid.shape[2], grid.spacing_mm, how)
    slices = sample @ volume.reshape(-1, grid.shape[2]).T
    noise = rng.standard_normal((2, *slices.shape), dtype=np.float32) * np.float32(how.noise)
    rician = np.hypot(slices + noise[0], noise[1])
    brain = brain_mask(tissue)
    values = (interpolate @ rician).T.reshape(grid.shape)[brain]
    picture = np.zeros(grid.shape, dtype=np.int16)
    stored = np.maximum(values, 0) ** np.float32(how.gamma) * np.float32(how.gain)
    picture[brain] = np.clip(np.rint(stored), 1, 32767).astype(np.int16)
    return picture


def _slices(count: int, spacing_mm: float, how: Acquisition) -> tuple[Any, Any]:
    """Two sparse matrices: from ``count`` voxels along z to acquired slices, and back.

    Slices no thicker than voxels are taken as the voxels themselves.
    """
    if how.slice_mm <= spacing_mm:
        same = sparse.eye_array(count, dtype=np.float32, format="csr")
        return same, same
    place = np.arange(count) * spacing_mm
    centres = np.arange(-1 + how.offset, count * spacing_mm / how.slice_mm + 1) * how.slice_mm
    # Slice profile: a box as thick as the slice, its flanks half a voxel wide.
    reach = how.slice_mm / 2 + spacing_mm / 2 - np.abs(place[None, :] - centres[:, None])
    weight = np.clip(reach / spacing_mm, 0, 1)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
    back = np.maximum(1 - np.abs(place[:, None] - centres[None, :]) / how.slice_mm, 0)
    return (sparse.csr_array(m.astype(np.float32)) for m in (weight, back))  # type: ignore[return-value]
