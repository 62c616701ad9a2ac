"""From tissue to a stored picture: contrast, texture, point spread, receive field, noise.

Brains of the template are scanned as a T2w ``Scanner`` says, which knows contrasts and no physics.
For those of label maps a pulse sequence and the tissues' relaxation give the signal
(``draw_contrast``), of which an acquisition makes slices (``acquire``). That signal is the usual
closed form for spin echo, inversion recovery or inversion-prepared gradient echo (Bernstein, King
and Zhou, Handbook of MRI Pulse Sequences, 2004). Settings are drawn from ranges in clinical use, so
that tissues keep the order of the contrast while their distances vary from scan to scan, together,
as they do between scanners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse

from twinvae.cohort.phantom.brain import Tissue, smooth_field
from twinvae.cohort.phantom.labels import CLASSES, NAMES, TISSUES
from twinvae.cohort.phantom.mni152 import FloatArray
from twinvae.config import PhantomContrast
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


Kind = Literal["spin echo", "inversion recovery", "prepared gradient echo"]
_T1_CSF_MS = TISSUES["ventricles"].t1_ms
_REAL: tuple[PhantomContrast, ...] = ("T1w", "T2w", "FLAIR")
_INVENTED = 0.4  # share of random contrasts that no scanner gives
_VARIATION = 0.035  # standard deviation of the log of relaxation times between people


@dataclass(frozen=True)
class Sequence:
    """Times of one pulse sequence, in ms."""

    kind: Kind
    repetition: float
    echo: float
    inversion: float = 0.0

    def signal(self, t1_ms: FloatArray, t2_ms: FloatArray, density: FloatArray) -> FloatArray:
        """Magnitude of the signal of tissues (n,), in units of fully relaxed CSF."""
        recovery = np.exp(-self.repetition / t1_ms)
        inverted = np.exp(-self.inversion / t1_ms)
        along = {
            "spin echo": 1 - recovery,
            "inversion recovery": 1 - 2 * inverted + recovery,
            "prepared gradient echo": 1 - 2 * inverted / (1 + recovery),
        }[self.kind]
        signal: FloatArray = (density * np.abs(along) * np.exp(-self.echo / t2_ms)).astype(
            np.float32
        )
        return signal


@dataclass(frozen=True)
class Contrast:
    """One subject's tissues under one sequence, relative to its white matter."""

    tissue: FloatArray
    """(1 + tissues,): signal by tissue number; CSF where there is no label."""
    water: FloatArray
    """(101,): signal of grey matter turning into CSF, at 0, 0.01, … 1 of the way."""
    fluid_bright: bool
    """Whether a lesion, which holds more water, is brighter than white matter."""

    def __getitem__(self, name: str) -> float:
        return float(self.tissue[1 + NAMES.index(name)])

    def level(self, fraction: FloatArray) -> FloatArray:
        """Signal at ``fraction`` of the way from grey matter (0) to CSF (1)."""
        steps = np.linspace(0, 1, len(self.water), dtype=np.float32)
        found: FloatArray = np.interp(fraction, steps, self.water).astype(np.float32)
        return found


def draw_sequence(rng: np.random.Generator, contrast: PhantomContrast) -> Sequence:
    """Draw the settings of a T2w, FLAIR or T1w scan."""
    if contrast == "T2w":
        return Sequence("spin echo", rng.uniform(4000, 9000), rng.uniform(82, 118))
    if contrast == "FLAIR":
        repetition = rng.uniform(8000, 11000)
        # Chosen to null CSF, which scanners do up to a few per cent.
        null = _T1_CSF_MS * np.log(2 / (1 + np.exp(-repetition / _T1_CSF_MS)))
        inversion = null * rng.uniform(0.95, 1.04)
        return Sequence("inversion recovery", repetition, rng.uniform(85, 140), inversion)
    if rng.random() < 0.5:
        return Sequence("spin echo", rng.uniform(400, 650), rng.uniform(8, 15))
    inversion = rng.uniform(1000, 1300)
    return Sequence("prepared gradient echo", rng.uniform(1800, 2500), 3.0, inversion)


def draw_contrast(rng: np.random.Generator, contrast: PhantomContrast) -> Contrast:
    """Draw a sequence and one person's relaxation times, and work out what each tissue shows.

    `random` is now one of the three contrasts, now one that no scanner gives (``_invented``).
    """
    if contrast == "random":
        if rng.random() < _INVENTED:
            return _invented(rng)
        contrast = _REAL[int(rng.integers(len(_REAL)))]
    sequence = draw_sequence(rng, contrast)
    names = [*NAMES]
    table = np.array([[TISSUES[n].t1_ms, TISSUES[n].t2_ms, TISSUES[n].density] for n in names])
    spread = np.array([_VARIATION, _VARIATION, _VARIATION / 3])
    table *= np.exp(rng.normal(0, spread, size=table.shape))
    if contrast == "FLAIR":
        # Its long echo trains saturate the bound protons of myelin: white matter loses more.
        myelin = np.array([TISSUES[n].kind == "white" for n in names])
        table[myelin, 2] *= 1 - rng.uniform(0.05, 0.2)
    signal = sequence.signal(*table.T)
    white = signal[NAMES.index("white")]
    ends = np.log(table[[NAMES.index("cortex"), NAMES.index("ventricles")]])
    steps = np.linspace(0, 1, 101)[:, None]
    water = sequence.signal(*np.exp((1 - steps) * ends[0] + steps * ends[1]).T)
    unlabelled = signal[NAMES.index("csf")]
    tissue = np.concatenate([[unlabelled], signal]).astype(np.float32)
    return Contrast(tissue / white, water / white, contrast != "T1w")


def _invented(rng: np.random.Generator) -> Contrast:
    """Any signal for each class of tissue, each structure near that of its class.

    Domain randomisation, after SynthSeg (Billot et al. 2023): a network that meets contrasts no
    scanner gives cannot rely on any.
    """
    classes = dict(zip(CLASSES, rng.uniform(0.05, 1.0, len(CLASSES)), strict=True))
    classes["white"] = max(classes["white"], 0.25)  # all else is relative to it
    signal = np.array([classes[TISSUES[name].kind] for name in NAMES])
    signal = np.maximum(signal + rng.normal(0, 0.06, len(NAMES)), 0.02)
    tissue = np.concatenate([[signal[NAMES.index("csf")]], signal]).astype(np.float32)
    white = classes["white"]
    ends = (signal[NAMES.index("cortex")], signal[NAMES.index("ventricles")])
    water = np.linspace(*ends, 101, dtype=np.float32)
    return Contrast(tissue / np.float32(white), water / np.float32(white), ends[1] > ends[0])


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
    """Draw a scanner: half of the T1w and a third of the other scans are 3D, near isotropic.

    For the contrast `random` one that is worse than most: blurred, uneven, noisy.
    """
    if contrast == "random":
        return Acquisition(
            in_plane_mm=float(rng.uniform(0.9, 2.6)),
            slice_mm=float(rng.uniform(1.0, 6.5)),
            offset=float(rng.random()),
            bias=float(rng.uniform(0.02, 0.2)),
            noise=float(rng.uniform(0.005, 0.06)),
            gamma=float(np.exp(rng.normal(0, 0.2))),
            gain=float(np.exp(rng.uniform(np.log(150), np.log(900)))),
        )
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
