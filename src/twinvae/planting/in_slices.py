"""Lesions planted in prepared slices, a batch at a time and on the slices' own device.

In the spirit of foreign-patch anomalies (Tan et al. 2020) and coarse-noise denoising (Kascenas et
al. 2022), but shaped like lesions: smooth, lobed blobs inside the brain, brighter or darker than
the tissue they lie in, textured, with soft edges and sometimes a core of another signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from twinvae.planting.in_volumes import BRIGHT_SHARE, PlantedContrast

_HARMONICS = 4  # lobes of an outline
_BEYOND = 0.7  # radii that a lesion's middle may lie above or below the slab's
_USUAL = 0.35  # share of the usual signal by which a tissue's may differ before a lesion spares it
_BRIGHTEST = 1.0


@dataclass(frozen=True)
class Planting:
    """What lesions are drawn from; lengths in mm, ranges as (lowest, highest)."""

    contrast: PlantedContrast = "any"
    """Decides how many lesions are brighter than their surroundings."""
    diameter_mm: tuple[float, float] = (6.0, 50.0)
    """Drawn evenly on a logarithmic scale."""
    strength: tuple[float, float] = (0.15, 1.2)
    """Signal over that of the tissue, less 1, logarithmic; dark lesions have the inverse ratio."""
    opacity: tuple[float, float] = (0.6, 1.0)
    """How far the lesion hides the anatomy beneath it."""
    edge_mm: tuple[float, float] = (2.0, 8.0)
    """Width of the border."""
    texture: float = 0.12
    """Standard deviation of the signal inside, relative to its mean."""
    second: float = 0.25
    """Chance of a second focus nearby."""
    core: float = 0.35
    """Chance of a core with a signal of its own."""
    push: float = 0.0
    """Mass effect: displacement at the border as a share of the radius, up to about 0.4."""
    grain: float = 0.0
    """How much of the slice's own grain shows in the lesion, from 0 to 1: noise, above all, whose
    lack would give a lesion away."""
    infiltrating: float = 0.0
    """Chance that a lesion spares what is far from the brain's usual signal, as oedema spares fluid
    and much of the cortex."""


class Planted(NamedTuple):
    """Slices with lesions in them."""

    images: Tensor
    """(n, K, H, W) in [0, 1], float32."""
    masks: Tensor
    """(n, K, H, W), bool: where the lesion makes up at least half of a pixel of the brain."""


def plant_in_slices(
    images: Tensor,
    brains: Tensor,
    generator: torch.Generator,
    *,
    pixel_mm: float | Tensor,
    heights_mm: Sequence[float] = (0.0,),
    share: float | None = None,
    options: Planting | None = None,
) -> Planted:
    """Plant one lesion (sometimes of two foci) in every slice; inputs are left as they are.

    Slabs of K slices of one brain get one lesion that goes on through them, and that may have its
    middle above or below the slab.

    Args:
        images: (n, K, H, W) float in [0, 1], as prepared slices are.
        brains: (n, K, H, W) bool; a slice without brain comes back unchanged, its mask empty.
        generator: on the device of ``images``; the same state gives the same lesions.
        pixel_mm: side of a pixel in mm, one number or (n,).
        heights_mm: K numbers, how high above the middle slice each slice lies, in mm.
        share: chance that a slice or slab gets one; the others come back as they are, their masks
            empty. None: all do.
        options: what lesions are drawn from.

    For a denoising model the clean target is ``images``; ``push`` then asks it to undo the
    displacement too.
    """
    options = options or Planting()
    draw, healthy = _Draws(images, generator, pixel_mm, heights_mm), images
    shape, centre, radius = _shape(draw, brains, options)
    if options.push:
        images = _pushed(draw, images, centre, radius, options.push * draw.uniform(), brains)
    shape = shape * brains
    if options.infiltrating:
        shape = shape * _open_to_water(draw, images, brains, options.infiltrating)
    level = _level(draw, images, shape, radius, centre, options)
    if options.grain:
        level = level + options.grain * (images - functional.avg_pool2d(images, 3, 1, 1))
    weight = shape * draw.between(options.opacity).view(-1, 1, 1, 1)
    lesioned = (images + weight * (level - images)).clamp(0, _BRIGHTEST).float()
    mask = (shape >= 0.5) & brains
    if share is None:
        return Planted(lesioned, mask)
    chosen = (draw.uniform() < share).view(-1, 1, 1, 1)
    return Planted(torch.where(chosen, lesioned, healthy), mask & chosen)


class _Draws:
    """Random numbers for a batch, and its pixel grid."""

    def __init__(
        self,
        images: Tensor,
        generator: torch.Generator,
        pixel_mm: float | Tensor,
        heights_mm: Sequence[float],
    ) -> None:
        self.n, _, *self.size = images.shape
        self.device, self._generator = images.device, generator
        self.pixel_mm = torch.as_tensor(pixel_mm, dtype=torch.float32, device=self.device)
        rows, columns = (
            torch.arange(s, device=self.device, dtype=torch.float32) for s in self.size
        )
        self.rows, self.columns = rows.view(1, 1, -1, 1), columns.view(1, 1, 1, -1)
        heights = torch.tensor(heights_mm, dtype=torch.float32, device=self.device)
        self.heights = heights.view(1, -1, 1, 1) / self.pixel_mm.view(-1, 1, 1, 1)
        """Of the slices, in pixels, (n or 1, K, 1, 1)."""

    def uniform(self) -> Tensor:
        """(n,) in [0, 1)."""
        return torch.rand(self.n, generator=self._generator, device=self.device)

    def between(self, span: tuple[float, float]) -> Tensor:
        """(n,), even over ``span``."""
        return span[0] + (span[1] - span[0]) * self.uniform()

    def log_between(self, span: tuple[float, float]) -> Tensor:
        """(n,), even over ``span`` on a logarithmic scale."""
        low, high = torch.tensor(span).log().tolist()
        return self.between((low, high)).exp()

    def normal(self, *shape: int) -> Tensor:
        """(n, *shape), standard normal."""
        return torch.randn((self.n, *shape), generator=self._generator, device=self.device)

    def field(self, cells: int) -> Tensor:
        """(n, 1, H, W): smooth noise of standard deviation near 1, ``cells`` details a side."""
        coarse = self.normal(1, cells + 2, cells + 2)
        fine = functional.interpolate(coarse, self.size, mode="bicubic", align_corners=True)
        return fine / fine.flatten(1).std(1).clamp(min=1e-6).view(-1, 1, 1, 1)

    def pixel_of(self, mask: Tensor) -> Tensor:
        """(n, 2): row and column of one pixel of each mask (n, 1, H, W), all alike."""
        inside = mask.flatten(1)
        chances = torch.rand(inside.shape, generator=self._generator, device=self.device) * inside
        chosen = chances.argmax(1)
        return torch.stack([chosen // self.size[1], chosen % self.size[1]], 1).float()


def _shape(draw: _Draws, brains: Tensor, options: Planting) -> tuple[Tensor, Tensor, Tensor]:
    """Share of each pixel that is lesion (n, K, H, W), centre (n, 3) and radius (n,) in pixels.

    The centre is a row, a column and a height.
    """
    centre = draw.pixel_of(brains[:, brains.shape[1] // 2, None])
    radius = draw.log_between(options.diameter_mm) / 2 / draw.pixel_mm
    through = brains.shape[1] > 1
    height = radius * draw.between((-_BEYOND, _BEYOND)) if through else torch.zeros_like(radius)
    centre = torch.cat([centre, height[:, None]], 1)
    edge = draw.between(options.edge_mm) / draw.pixel_mm
    # A lesion smaller than its border would never reach half of a pixel.
    edge = torch.minimum(edge, radius).view(-1, 1, 1, 1)
    depth = _depth(draw, centre, radius)
    away = draw.normal(2 + through) * radius.view(-1, 1)
    away = functional.pad(away, (0, 3 - away.shape[1]))
    second = _depth(draw, centre + away, radius * draw.between((0.3, 0.8)))
    has_second = (draw.uniform() < options.second).view(-1, 1, 1, 1)
    depth = torch.where(has_second, torch.maximum(depth, second), depth)
    ragged = 0.15 * draw.field(8) * radius.view(-1, 1, 1, 1)
    at_centre = (draw.rows - centre[:, 0, None, None, None]).abs() + (
        draw.columns - centre[:, 1, None, None, None]
    ).abs() < 0.5
    at_centre = at_centre & ((draw.heights - height.view(-1, 1, 1, 1)).abs() < 0.5)
    soft = ((depth + ragged) / edge + 0.5).clamp(0, 1)
    soft = torch.maximum(soft * soft * (3 - 2 * soft), at_centre.float())
    return soft, centre, radius


def _depth(draw: _Draws, centre: Tensor, radius: Tensor) -> Tensor:
    """Pixels below the outline of a lobed, stretched blob (n, K, H, W); negative outside."""
    y = draw.rows - centre[:, 0, None, None, None]
    x = draw.columns - centre[:, 1, None, None, None]
    z = draw.heights - centre[:, 2, None, None, None]
    turn = (torch.pi * draw.uniform()).view(-1, 1, 1, 1)
    stretch = (0.2 * draw.normal()).exp().view(-1, 1, 1, 1)
    u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    distance = torch.hypot(torch.hypot(u * stretch, v / stretch), z)
    angle = torch.atan2(v, u)
    lobes = torch.zeros_like(distance)
    for k in range(2, 2 + _HARMONICS):
        phase = (2 * torch.pi * draw.uniform()).view(-1, 1, 1, 1)
        lobes = lobes + draw.normal().view(-1, 1, 1, 1) * (0.2 / k) * torch.cos(k * angle + phase)
    return radius.view(-1, 1, 1, 1) * lobes.exp() - distance


def _level(
    draw: _Draws, images: Tensor, shape: Tensor, radius: Tensor, centre: Tensor, options: Planting
) -> Tensor:
    """Signal of the lesion itself (n, K, H, W)."""
    total = shape.flatten(1).sum(1).clamp(min=1e-6)
    tissue = (shape * images).flatten(1).sum(1) / total
    sign = torch.where(draw.uniform() < BRIGHT_SHARE[options.contrast], 1.0, -1.0)
    ratio = (1 + draw.log_between(options.strength)) ** sign
    inner = (1 + draw.log_between(options.strength)) ** (sign * draw.between((-1.0, 1.6)))
    core = _depth(draw, centre, 0.55 * radius)
    has_core = (draw.uniform() < options.core).view(-1, 1, 1, 1)
    in_core = (core / (0.2 * radius.view(-1, 1, 1, 1)).clamp(min=0.5) + 0.5).clamp(0, 1) * has_core
    mean = (tissue * ratio).view(-1, 1, 1, 1)
    mean = mean + in_core * ((tissue * inner).view(-1, 1, 1, 1) - mean)
    coarse, fine = draw.field(6), draw.field(max(draw.size[0] // 3, 8))
    return mean * (1 + options.texture * (0.8 * coarse + 0.6 * fine))


def _open_to_water(draw: _Draws, images: Tensor, brains: Tensor, chance: float) -> Tensor:
    """How far each pixel lets a lesion in, (n, K, H, W): 1 where the signal is the usual one.

    With 1 − ``chance`` everywhere 1.
    """
    values = images.masked_fill(~brains, torch.nan).flatten(1)
    usual = values.nanmedian(1).values.nan_to_num(1.0).clamp(min=0.05).view(-1, 1, 1, 1)
    strictness = draw.between((0.2, 1.0)).view(-1, 1, 1, 1)
    spared = torch.exp(-strictness * ((images - usual) / (_USUAL * usual)).square())
    choosy = (draw.uniform() < chance).view(-1, 1, 1, 1)
    return torch.where(choosy, spared, torch.ones_like(spared))


def _pushed(
    draw: _Draws, images: Tensor, centre: Tensor, radius: Tensor, push: Tensor, brains: Tensor
) -> Tensor:
    """The slices with what surrounds each lesion moved outwards in plane; the outline stays."""
    n, planes, height, width = images.shape
    y = draw.rows - centre[:, 0, None, None, None]
    x = draw.columns - centre[:, 1, None, None, None]
    z = draw.heights - centre[:, 2, None, None, None]
    distance = torch.hypot(torch.hypot(y, x), z).clamp(min=1e-3)
    size = radius.view(-1, 1, 1, 1)
    room = functional.avg_pool2d(brains.float(), 9, 1, 4, count_include_pad=True)
    shift = push.view(-1, 1, 1, 1) * size * torch.exp(-(distance - size).clamp(min=0) / (size + 1))
    shift = shift * (distance / size).clamp(max=1) * (2 * room - 1).clamp(0, 1)
    rows, columns = draw.rows - shift * y / distance, draw.columns - shift * x / distance
    grid = torch.stack([2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1], -1)
    moved = functional.grid_sample(
        images.reshape(n * planes, 1, height, width),
        grid.reshape(n * planes, height, width, 2),
        padding_mode="border",
        align_corners=True,
    )
    return torch.where(brains, moved.view_as(images), images)
