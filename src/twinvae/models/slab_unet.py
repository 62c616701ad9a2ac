"""A U-Net that sees a slice between its neighbours, removes lesions and says where they were.

It is trained on lesions planted in healthy slices and on nothing else. Shown brains of every
contrast, real or invented (``cohort.phantom``, contrast `random`), it does not depend on any.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import Documented, ModelConfig
from twinvae.imaging.slabs import SLAB
from twinvae.models.contract import Loss, TrainingBatch, drawing, sum_pixels
from twinvae.models.unets import UNet, mirror
from twinvae.models.vae import gaussian_log_density
from twinvae.planting import PlantedContrast, Planting, plant_in_slices

_FOLD = 2  # pixels a side that become channels: the first level works at half the resolution
_VARIANCE = 0.13**2  # of x_h: with it both terms of the loss are of like size
_NOISE = 0.05  # largest standard deviation of the noise of a slab
_VISIBLE = 0.04  # least change of intensity that counts as lesion
_RARE = -3.0  # the network's first guess: few pixels are lesion, as logit


class SlabOptions(Documented):
    """What is planted in training."""

    contrast: PlantedContrast = "any"
    """Which lesions are planted: mostly bright ones (T2w, FLAIR), mostly dark (T1w), or both."""
    planted: float = Field(default=0.6, gt=0, le=1)
    """Share of training slices that get a lesion; the rest teaches to leave tissue alone."""
    diameter_mm: tuple[float, float] = (14.0, 85.0)
    """Smallest and largest lesion."""
    strength: tuple[float, float] = (0.3, 1.5)
    """Weakest and strongest: signal over that of the tissue, less 1."""
    push: float = Field(default=0.3, ge=0, le=0.4)
    """Mass effect, as a share of the lesion's radius."""
    infiltrating: float = Field(default=0.5, ge=0, le=1)
    """Share of lesions that spare fluid and much of the cortex."""
    field_of_view_mm: float = Field(default=200.0, gt=0)
    """Side of the slice in mm, as the recipe's crop_resize has it."""
    neighbour_mm: float = Field(default=4.2, gt=0)
    """How far the slices of a slab lie apart, in mm: 3 % of a brain's height."""


class SlabUNet(UNet):
    """Slabs (batch, 3, H, W) in; the healthy middle slice and the lesion's logit out.

    The slice's mirror image is a fourth channel. Given a slice alone, (batch, 1, H, W), it takes
    it for its own neighbours.
    """

    Options = SlabOptions
    source: ClassVar[str] = "this project; after Kascenas et al. 2022 and Billot et al. 2023"
    slab: ClassVar[bool] = True
    finds_lesions: ClassVar[bool] = True
    options: SlabOptions

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.head = nn.Conv2d(self.outputs, 2 * _FOLD**2, kernel_size=1)
        first = torch.tensor([0.0, _RARE]).repeat_interleave(_FOLD**2)
        self.head.bias = nn.Parameter(first)
        self.planting = Planting(
            contrast=self.options.contrast,
            diameter_mm=self.options.diameter_mm,
            strength=self.options.strength,
            push=self.options.push,
            infiltrating=self.options.infiltrating,
            grain=1.0,
        )

    @property
    def inputs(self) -> int:
        """The slab and the mirror image, folded."""
        return (SLAB + 1) * _FOLD**2

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every level, at H/2 × W/2, half of it, …, in order."""
        slab = x.expand(-1, SLAB, -1, -1)
        middle = _middle(slab)
        seen = torch.cat([slab, mirror(middle, middle > 0)], dim=1)
        return super().features(functional.pixel_unshuffle(seen, _FOLD))

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The middle slice's correction and the logit of a lesion, both (batch, 1, H, W)."""
        both = functional.pixel_shuffle(self.head(self.last(x)), _FOLD).float()
        brain = _middle(x) > 0
        return both[:, :1] * brain, both[:, 1:]

    def examine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The middle slice without its lesions, and where they are; see ``Model.examine``."""
        middle = _middle(x)
        correction, logit = self.answers(x)
        return (middle + correction).clamp(0, 1), logit.sigmoid() * (middle > 0)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The middle slice without what looks like a lesion, in [0, 1]; nothing is planted."""
        return self.examine(x)[0]

    def loss(
        self,
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(healthy slice, lesion's mask | slab with a lesion); there is no KL term.

        Normal with a fixed variance, and Bernoulli, inside the brain; in nats a slice.
        """
        target = batch.target.expand(-1, SLAB, -1, -1)
        brains = target > 0
        ill, lesion = self.with_lesions(batch.x.expand_as(target) * brains, brains, generator)
        # In use the background is zero and tells where the brain is; noise there would not.
        ill, target = (image * brains for image in _taken_again(ill, target, generator))
        counts = _middle(brains)
        if batch.mask is not None:
            counts = counts & batch.mask
        correction, logit = self.answers(ill)
        healed = _middle(ill) + correction
        variance = torch.tensor(_VARIANCE, device=logit.device)
        density = gaussian_log_density(_middle(target), healed, variance)
        density = density - functional.binary_cross_entropy_with_logits(
            logit, lesion.float(), reduction="none"
        )
        log_likelihood = sum_pixels(density, counts).mean()
        return Loss(-log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))

    def with_lesions(
        self, slab: Tensor, brains: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The slab with a lesion in the share ``planted``, and the middle slice's masks, bool.

        What cannot be seen is not in the mask: it would teach to guess where it might be.
        """
        step = self.options.neighbour_mm
        ill, masks = plant_in_slices(
            slab,
            brains,
            drawing(generator, slab.device),
            pixel_mm=self.options.field_of_view_mm / slab.shape[-1],
            heights_mm=(-step, 0.0, step),
            share=self.options.planted,
            options=self.planting,
        )
        seen = (ill - slab).abs() > _VISIBLE
        return ill, _middle(masks & seen)


def _middle(slab: Tensor) -> Tensor:
    """The slice between its neighbours, (batch, 1, H, W), or the only one there is."""
    return slab[:, slab.shape[1] // 2, None]


def _taken_again(
    ill: Tensor, healthy: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Both slabs (batch, K, H, W) by the same scanner: blurred alike, with the same noise.

    What was planted has then been through a scanner too, and cannot be told by its sharpness.
    """
    draw = drawing(generator, ill.device)
    n, device = len(ill), ill.device
    chance = torch.rand((3, n, 1, 1, 1), generator=draw, device=device)
    noise = torch.randn(ill.shape, generator=draw, device=device) * _NOISE * chance[0]
    coarse = 2 * functional.avg_pool2d(noise, 3, 1, 1)
    noise = torch.where(chance[1] < 0.5, noise, coarse)
    blur = (2 * chance[2] - 1).clamp(min=0)  # none in every second slab

    def taken(images: Tensor) -> Tensor:
        blurred = images + blur * (functional.avg_pool2d(images, 3, 1, 1) - images)
        return (blurred + noise).clamp(0, 1)

    return taken(ill), taken(healthy)
