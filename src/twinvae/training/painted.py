"""Slabs painted on label maps as training goes: no two steps see the same brain, scan or contrast.

Domain randomisation after SynthSeg (Billot et al. 2023), two-dimensional and in a few
milliseconds: a label map is moved, cut, given the signal of a random contrast
(``phantom.scanner.draw_contrast``), averaged over thick slices and freed from its skull, too much
here and too little there. Lesions are planted, and noise is added, by the model that is trained.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from twinvae.cohort.phantom.brain import rotation
from twinvae.cohort.phantom.labels import NAMES, label_maps, load_anatomy
from twinvae.cohort.phantom.mni152 import COARSE
from twinvae.cohort.phantom.scanner import draw_contrast
from twinvae.imaging.slabs import SLAB
from twinvae.progress import progress_bar

_FIELD_MM = 200.0  # side of a slice, as the recipe's crop_resize has it
_FINE = 2  # label voxels along each side of a pixel: their average is its partial volume
_ABOVE = ((-1, 1), (1, -1))  # quarters of a slice's thickness at which those voxels lie
_TURN_DEG, _STRETCH, _SHIFT_MM = 10.0, 0.12, 5.0
_BENDS_MM = ((5, 3.0), (12, 1.2))  # knots along each side, standard deviation of the displacement
_APART_MM = (3.2, 5.2)  # between the slices of a slab: 3 % of a brain's height
_THICK_MM = (1.0, 6.0)
_EDGE_MM = (-2.0, 2.5)  # of the skull's stripping: beyond the brain's surface, and within it
_FEWEST_MM2 = 2500.0  # brain in a slice, as the recipe's select_slices has it
_MEDIAN, _MEDIAN_SPREAD = 0.45, 0.1  # of the brain's intensity, as the recipe's percentile_scale
_FAR_MM = 15  # depths and distances are kept up to here, in eighths of a mm
_TEXTURE = 0.05
_UNEVEN = 0.1  # the same in the brainstem, whose nuclei and tracts label maps do not tell apart
_FOLIA_MM, _FOLIA_FLUID = (3.0, 7.0), 0.7  # from one to the next; fluid between them, at most
_LOAD = (0.0, 0.6)  # of white matter hyperintensities, as ``phantom.brain.draw_load``
_WATER = (0.08, 0.25)  # of the way from grey matter to CSF: their signal


@dataclass(frozen=True)
class PaintedSlabs:
    """What ``fit`` trains on, in place of stored slices; the same generator gives the same slabs.

    Volumes are of K label maps in MNI pose, 1 mm, in one box (X, Y, Z).
    """

    tissue: Tensor
    """(K, X, Y, Z) uint8: 1 + number of the tissue in ``phantom.labels.NAMES``; 0: fluid."""
    depth: Tensor
    """(K, X, Y, Z) int8: eighths of a mm below the brain's surface; negative outside."""
    wall: Tensor
    """(K, X, Y, Z) int8: eighths of a mm from the nearest ventricle."""
    heights: tuple[NDArray[np.int64], ...]
    """Of each map: the places along z with enough brain."""
    counts: NDArray[np.int64]
    """(K, 1 + tissues): voxels of each tissue within the brain."""
    stem: NDArray[np.float64]
    """(K, 3): the brainstem's centre, in voxels; the cerebellum's folia curve around it."""
    size: int
    """Pixels along each side of a slice."""
    train: NDArray[np.intp]
    """As many numbers as an epoch has slabs."""
    val: NDArray[np.intp]
    """As many as are watched."""

    @classmethod
    def of_folder(cls, folder: Path, size: int, slabs: int, watched: int = 256) -> Self:
        """Of all label maps in ``folder``, about 2 s each; ``slabs`` make an epoch.

        Raises ``ConfigError`` when there are none, ``DataError`` for one that cannot be used.
        """
        paths = label_maps(folder)
        read = []
        with progress_bar("read label maps", len(paths)) as bar:
            for path in paths:
                read.append(_volumes(path))
                bar.advance()
        shape = np.max([volumes[0].shape for volumes in read], axis=0) + 2
        tissue, depth, wall = (
            torch.from_numpy(np.stack([_boxed(v[kind], shape, fill) for v in read]))
            for kind, fill in enumerate((0, -8 * _FAR_MM, 8 * _FAR_MM))
        )
        inside = depth > 0
        areas = inside.sum((1, 2)).numpy()
        return cls(
            tissue, depth, wall,
            heights=tuple(np.flatnonzero(area >= _FEWEST_MM2) for area in areas),
            counts=np.stack([
                np.bincount(t[i].numpy(), minlength=1 + len(NAMES))
                for t, i in zip(tissue, inside, strict=True)
            ]),
            stem=np.stack([_centre(t == 1 + NAMES.index("brainstem")) for t in tissue]),
            size=size, train=np.arange(slabs), val=np.arange(watched),
        )  # fmt: skip

    def content(self, rows: NDArray[np.intp]) -> str:
        """A fingerprint of all that slabs are made of."""
        found = hashlib.sha256(repr((len(rows), self.size)).encode())
        for volumes in (self.tissue, self.depth, self.wall):
            found.update(volumes.numpy().tobytes())
        return found.hexdigest()

    def mask(self, rows: NDArray[np.intp], device: torch.device, *, brain: bool) -> None:
        """All pixels count."""

    def conditions(self, rows: NDArray[np.intp], device: torch.device) -> None:
        """There are none."""

    def batch(
        self, rows: NDArray[np.intp], device: torch.device, generator: torch.Generator
    ) -> Tensor:
        """Healthy slabs (len(rows), 3, size, size) float32 in [0, 1], black outside the brain."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        draw = np.random.default_rng(seed)
        own = torch.Generator().manual_seed(seed)
        return _Painting(self, len(rows), draw, own).slabs().to(device)


def _volumes(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.int8]]:
    """Tissue, depth and distance from the ventricles of one label map."""
    from scipy import ndimage

    anatomy = load_anatomy(path)
    brain = anatomy.maps.brain > 127
    away = ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain)
    wall = anatomy.maps.warp[3]
    for axis, count in enumerate(brain.shape):
        wall = wall.repeat(COARSE, axis).take(range(count), axis)
    return anatomy.tissue, _eighths(away), _eighths(wall)


def _eighths(distance_mm: NDArray[np.floating]) -> NDArray[np.int8]:
    found: NDArray[np.int8] = np.rint(8 * np.clip(distance_mm, -_FAR_MM, _FAR_MM)).astype(np.int8)
    return found


def _boxed(volume: NDArray[Any], shape: NDArray[np.int64], fill: int) -> NDArray[Any]:
    """In the middle of a box filled with ``fill``."""
    box = np.full(shape, fill, volume.dtype)
    low = (shape - volume.shape) // 2
    box[tuple(slice(a, a + n) for a, n in zip(low, volume.shape, strict=True))] = volume
    return box


def _centre(mask: Tensor) -> NDArray[np.float64]:
    """(3,): of a mask (X, Y, Z), or of its box when it is empty."""
    if not mask.any():
        return (np.array(mask.shape) - 1) / 2
    return mask.nonzero().double().mean(0).numpy()


class _Painting:
    """One batch: which maps, cut where, in which contrasts."""

    def __init__(
        self, source: PaintedSlabs, n: int, draw: np.random.Generator, own: torch.Generator
    ) -> None:
        self.source, self.n, self.draw, self.own = source, n, draw, own
        self.maps = draw.integers(len(source.tissue), size=n)
        self.contrasts = [draw_contrast(draw, "random") for _ in range(n)]

    def slabs(self) -> Tensor:
        """(n, 3, size, size)."""
        places = self.places()
        fine = self.signal(self._look_up(self.source.tissue, places).long(), places)
        image = functional.avg_pool2d(fine, _FINE)
        middle = places[..., ::_FINE, ::_FINE]
        tissue, depth, wall = (
            self._look_up(volumes, middle)
            for volumes in (self.source.tissue, self.source.depth, self.source.wall)
        )
        image = image + self.hyperintensities(tissue, wall)
        image = image * (1 + self.textures(tissue == 1 + NAMES.index("brainstem")))
        below = depth.float() / 8 - self._uniform(_EDGE_MM)
        image = image * self.remains(below)
        brain = below + 1.0 * self._field(9) > 0
        return (image * self.scale()).clamp(1e-3, 1) * brain

    def places(self) -> Tensor:
        """Voxels (n, 3 axes, 3 slices, fine, fine) that the pixels are made of; int32.

        Rows go from front to back and columns from the right to the left, as in stored slices.
        """
        source, side = self.source, self.source.size * _FINE
        step = _FIELD_MM / side
        line = (torch.arange(side) - (side - 1) / 2) * step
        turn, centre = self._pose()
        bend = sum(
            sd * self._field(knots, side, channels=3) for knots, sd in _BENDS_MM
        )  # (n, 3, side, side)
        rows, columns = -line[:, None], -line[None, :]
        flat = turn[:, :, 0, None, None] * columns + turn[:, :, 1, None, None] * rows
        flat = flat + bend + centre[:, :, None, None]
        apart = self._uniform(_APART_MM) * torch.arange(-1, SLAB - 1).view(1, -1, 1, 1)
        cell = torch.tensor(_ABOVE).tile(self.source.size, self.source.size)
        heights = apart + self._uniform(_THICK_MM) * cell / 4  # (n, 3 slices, fine, fine)
        found = flat[:, :, None] + turn[:, :, 2, None, None, None] * heights[:, None]
        limit = torch.tensor(source.tissue.shape[1:]).view(1, 3, 1, 1, 1) - 1
        return torch.minimum(found.round_().int().clamp_(min=0), limit)

    def _pose(self) -> tuple[Tensor, Tensor]:
        """Matrices (n, 3, 3) from mm in the slice to voxels, and the slices' centres (n, 3)."""
        angles = self.draw.uniform(-_TURN_DEG, _TURN_DEG, (self.n, 3))
        turn = np.stack([rotation(tuple(one)) for one in angles])
        size = 1 + self.draw.uniform(-_STRETCH, _STRETCH, (self.n, 3))
        size[:, 0] *= self.draw.choice((-1, 1), self.n)
        middle = (np.array(self.source.tissue.shape[1:]) - 1) / 2
        centre = middle + self.draw.uniform(-_SHIFT_MM, _SHIFT_MM, (self.n, 3))
        centre[:, 2] = [self.draw.choice(self.source.heights[k]) for k in self.maps]
        return torch.from_numpy(turn / size[:, None]).float(), torch.from_numpy(centre).float()

    def _look_up(self, volumes: Tensor, places: Tensor) -> Tensor:
        """Values of each slab's own map at ``places`` (n, 3, …), (n, …)."""
        shape = volumes.shape[1:]
        first = torch.from_numpy(self.maps).int().view(-1, *[1] * (places.ndim - 2))
        at = ((first * shape[0] + places[:, 0]) * shape[1] + places[:, 1]) * shape[2]
        return volumes.view(-1)[at + places[:, 2]]

    def signal(self, tissue: Tensor, places: Tensor) -> Tensor:
        """Relative to white matter, (n, 3 slices, fine, fine) as ``tissue``."""
        table = torch.from_numpy(np.stack([c.tissue for c in self.contrasts]))
        own = torch.arange(self.n).view(-1, 1, 1, 1) * table.shape[1]
        signal = table.view(-1)[tissue + own]
        folia = self.folia(places) * (tissue == 1 + NAMES.index("cerebellar_cortex"))
        return signal + folia * (table[:, 0].view(-1, 1, 1, 1) - signal)

    def folia(self, places: Tensor) -> Tensor:
        """Share of fluid between the cerebellum's folia, which label maps do not show."""
        stem = torch.from_numpy(self.source.stem[self.maps]).float().view(-1, 3, 1, 1, 1)
        away = (places - stem).square_().sum(1).sqrt_()
        bent = away + 4 * self._field(10, away.shape[-1])
        wave = torch.sin(bent * (2 * torch.pi / self._uniform(_FOLIA_MM)))
        return self._uniform((0, _FOLIA_FLUID)) * (0.5 + 0.5 * wave)

    def hyperintensities(self, tissue: Tensor, wall: Tensor) -> Tensor:
        """Rims and caps around the ventricles, and spots, as healthy people have with age."""
        load = self._uniform(_LOAD) * (self._uniform((0, 1)) < 0.7)
        white = tissue == 1 + NAMES.index("white")
        width = (0.5 + 4 * load) * (0.5 * self._field(14)).exp()
        rim = ((width - wall.float() / 8) / 2).clamp(0, 1) * (0.35 + load).clamp(max=1)
        spots = ((self._field(48) + 0.6 * self._field(8) - (4.2 - 1.6 * load)) / 0.5).clamp(0, 1)
        share = torch.maximum(rim, spots * (load > 0.15)) * white
        share = functional.avg_pool2d(share, 3, 1, 1)
        water = self.draw.uniform(*_WATER, (self.n, 1)).astype(np.float32)
        signal = np.stack([c.level(w) for c, w in zip(self.contrasts, water, strict=True)])
        return share * (torch.from_numpy(signal).view(-1, 1, 1, 1) - 1)

    def textures(self, stem: Tensor) -> Tensor:
        """Slow wander of the signal within tissue, as a share."""
        coarse, fine = (self._uniform((0, _TEXTURE)) * self._field(k) for k in (10, 30))
        uneven = self._uniform((0, _UNEVEN)) * self._field(14) * stem
        return coarse + fine + uneven

    def remains(self, below: Tensor) -> Tensor:
        """What is left of the signal near the surface, where dura, bone and vessels remain."""
        rim = (1 - below / 2.5).clamp(0, 1)
        uneven = self._uniform((0, 1)) + 0.6 * self._field(18)
        return 1 - (rim * uneven).clamp(0, 0.9)

    def scale(self) -> Tensor:
        """(n, 1, 1, 1): brings the brain's median, as the recipe does, near 0.45."""
        medians = [
            _median(c.tissue, self.source.counts[k])
            for c, k in zip(self.contrasts, self.maps, strict=True)
        ]
        spread = np.exp(self.draw.normal(0, _MEDIAN_SPREAD, self.n))
        return torch.from_numpy(_MEDIAN * spread / medians).float().view(-1, 1, 1, 1)

    def _uniform(self, span: tuple[float, float]) -> Tensor:
        drawn = torch.rand((self.n, 1, 1, 1), generator=self.own)
        return span[0] + (span[1] - span[0]) * drawn

    def _field(self, knots: int, side: int | None = None, channels: int = 1) -> Tensor:
        """(n, channels, side, side): smooth noise of standard deviation near 1."""
        side = side or self.source.size
        coarse = torch.randn((self.n, channels, knots + 2, knots + 2), generator=self.own)
        field = functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
        return 1.3 * field  # interpolation takes a quarter of the spread


def _median(signal: NDArray[np.float32], counts: NDArray[np.int64]) -> float:
    order = np.argsort(signal)
    upto = np.cumsum(counts[order])
    return max(float(signal[order][np.searchsorted(upto, upto[-1] / 2)]), 0.05)
