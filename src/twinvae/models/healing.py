"""A U-Net that heals: it learns to remove lesions planted in healthy slices, and nothing else.

Denoising (Kascenas et al. 2022) with lesions (``twinvae.planting``) in place of noise, and with the
brain's own other half at hand: x and its mirror image go in, a correction comes out, so that away
from lesions x_h is x itself, as sharp as it was. No tumour label is used.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from twinvae.config import ModelConfig
from twinvae.config.base import Documented
from twinvae.models.contract import Loss
from twinvae.models.likelihood import gaussian_log_density, sum_pixels
from twinvae.models.mirror import mirror
from twinvae.models.unet import UNet
from twinvae.planting import PlantedContrast, Planting, plant_in_slices


class HealingOptions(Documented):
    """What is planted in training, and whether the network sees the mirror image."""

    contrast: PlantedContrast = "any"
    """Which lesions are planted: mostly bright ones (T2w, FLAIR), mostly dark (T1w), or both."""
    planted: float = Field(default=0.8, gt=0, le=1)
    """Share of training slices that get a lesion; the rest teaches to leave tissue alone."""
    diameter_mm: tuple[float, float] = (8.0, 60.0)
    """Smallest and largest lesion."""
    strength: tuple[float, float] = (0.15, 1.5)
    """Weakest and strongest: signal over that of the tissue, less 1."""
    push: float = Field(default=0.0, ge=0, le=0.4)
    """Mass effect, as a share of the lesion's radius."""
    mirror: bool = True
    """Show the network the slice's mirror image too."""
    field_of_view_mm: float = Field(default=200.0, gt=0)
    """Side of the slice in mm, as the recipe's crop_resize has it."""


class HealingUNet(UNet):
    """A U-Net that removes lesions planted in healthy slices, with the mirror image at hand."""

    Options = HealingOptions
    source: ClassVar[str] = "this project; after Kascenas et al. 2022 and Tan et al. 2020"
    options: HealingOptions

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.correction = nn.Conv2d(self.outputs, 1, kernel_size=1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.05)))
        self.planting = Planting(
            contrast=self.options.contrast,
            diameter_mm=self.options.diameter_mm,
            strength=self.options.strength,
            push=self.options.push,
        )

    @property
    def inputs(self) -> int:
        """The slice, and perhaps its mirror image."""
        return 2 if self.options.mirror else 1

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every level, at H × W, half of it, …, in order."""
        seen = torch.cat([x, mirror(x, x > 0)], dim=1) if self.options.mirror else x
        return super().features(seen)

    def heal(self, x: Tensor) -> Tensor:
        """``x`` plus the correction inside the brain; not confined to [0, 1]."""
        correction: Tensor = self.correction(self.last(x)).float()
        return x + correction * (x > 0)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The slice without what looks like a lesion, in [0, 1]; nothing is planted."""
        return self.heal(x).clamp(0, 1)

    def loss(
        self,
        x: Tensor,
        target: Tensor,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        mask: Tensor | None = None,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(target | x with a lesion), normal with a learned variance, inside the brain.

        An absolute error has its median at no correction at all, and training stays there.
        """
        brain = target > 0
        # In use the background is zero and tells where the brain is; noise there would not.
        healed = self.heal(self.with_lesions(x * brain, brain, generator))
        variance = (2 * self.log_scale.float()).exp()
        density = gaussian_log_density(target, healed, variance)
        log_likelihood = sum_pixels(density, brain if mask is None else mask).mean()
        return Loss(-log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))

    def with_lesions(
        self, x: Tensor, brain: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """``x`` with a lesion in the share ``planted`` of the slices."""
        draw = generator or torch.default_generator
        pixel_mm = self.options.field_of_view_mm / x.shape[-1]
        ill = plant_in_slices(x, brain, draw, pixel_mm=pixel_mm, options=self.planting).images
        chance = torch.rand((len(x), 1, 1, 1), generator=draw, device=x.device)
        return torch.where(chance < self.options.planted, ill, x)
