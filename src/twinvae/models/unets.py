"""U-Nets that are trained to undo damage: coarse noise, or lesions planted in healthy slices."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import Documented, ModelConfig
from twinvae.models.blocks import ConvBlock
from twinvae.models.contract import Loss, Model, TrainingBatch, drawing, sum_pixels
from twinvae.models.vae import gaussian_log_density, log_density
from twinvae.planting import PlantedContrast, Planting, plant_in_slices


class UNet(Model):
    """A U-Net, Ronneberger et al. 2015; its skip connections leave no encoding.

    ``encoder_channels`` are those of the levels from the finest to the coarsest,
    ``decoder_channels`` those of the way back up. A subclass adds what turns the last activations
    into an image.
    """

    has_encoding: ClassVar[bool] = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        widths, ups = config.encoder_channels, config.decoder_channels
        self.encoder = nn.ModuleList(ConvBlock(i, o) for i, o in pairwise((self.inputs, *widths)))
        below, skips = (widths[-1], *ups[:-1]), widths[-2::-1]
        self.decoder = nn.ModuleList(
            ConvBlock(b + s, o) for b, s, o in zip(below, skips, ups, strict=True)
        )
        self.outputs = (widths[-1], *ups)[-1]
        """Channels of what ``last`` gives."""
        # Convolutions of so few channels take three fifths of the time on a CPU this way.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def inputs(self) -> int:
        """Channels of the network's input."""
        return 1

    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every level, at H × W, half of it, …, in order."""
        maps: list[Tensor] = []
        for block in self.encoder:
            x = block(functional.avg_pool2d(maps[-1], 2) if maps else x)
            maps.append(x)
        return maps

    def last(self, x: Tensor) -> Tensor:
        """Activations of the decoder's last level, (batch, ``outputs``, H, W)."""
        *skips, hidden = self.features(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            up = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = block(torch.cat([up, skip], dim=1))
        return hidden


class DenoisingOptions(Documented):
    """Settings of the noise."""

    noise_std: float = Field(default=0.2, gt=0)
    """Standard deviation of the coarse noise, in intensity units of [0, 1]."""
    noise_cells: int = Field(default=16, ge=1)
    """Independent draws along each side of the image, interpolated in between; the paper's 16
    make spots of a sixteenth of the image."""


class DenoisingAutoencoder(UNet):
    """A U-Net with skip connections that removes coarse noise; it has no encoding.

    Kascenas, Pugeault & O'Neil 2022, Denoising autoencoders for unsupervised anomaly detection in
    brain MRI. Skip connections keep all detail; coarse noise keeps the copy from being the answer.
    """

    Options = DenoisingOptions
    source: ClassVar[str] = "Kascenas et al. 2022 (DAE)"
    options: DenoisingOptions

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        channels = 2 if config.variance == "per_pixel" else 1
        self.image = nn.Conv2d(self.outputs, channels, kernel_size=3, padding=1)
        if config.variance == "scalar":
            self.scalar_raw = nn.Parameter(torch.zeros(()))

    def denoise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (before the sigmoid) and variance of the clean image behind ``x``."""
        image = self.image(self.last(x)).float()
        raw = image[:, 1:] if self.config.variance == "per_pixel" else self.scalar_raw.float()
        return image[:, :1], functional.softplus(raw).square() + self.config.min_variance

    def reconstruct(self, x: Tensor) -> Tensor:
        """The clean image that the network sees behind ``x``, in (0, 1); no noise is added."""
        return torch.sigmoid(self.denoise(x)[0])

    def loss(
        self,
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(target | x + coarse noise); the noise falls where ``target`` is not black."""
        noise = self.coarse_noise(batch.x, generator) * (batch.target > 0)
        mean, variance = self.denoise(batch.x + noise)
        density = log_density(batch.target, mean, variance, self.config)
        log_likelihood = sum_pixels(density, batch.mask).mean()
        return Loss(-log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))

    def coarse_noise(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Low-resolution noise, interpolated to the shape of ``x`` and shifted at random."""
        cells, size = self.options.noise_cells, x.shape[-2:]
        shape = (len(x), 1, cells, cells)
        noise = torch.randn(shape, generator=generator, device=x.device) * self.options.noise_std
        fine = functional.interpolate(noise, size=size, mode="bilinear", align_corners=False)
        by = torch.randint(size[0], (2,), generator=generator, device=x.device).tolist()
        return fine.roll(by, dims=(-2, -1))


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
    """A U-Net that removes lesions planted in healthy slices, with the mirror image at hand.

    Denoising (Kascenas et al. 2022) with lesions (``twinvae.planting``) in place of noise, and with
    the brain's own other half at hand: x and its mirror image go in, a correction comes out, so
    that away from lesions x_h is x itself, as sharp as it was. No tumour label is used.
    """

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
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(target | x with a lesion), normal with a learned variance, inside the brain.

        An absolute error has its median at no correction at all, and training stays there.
        """
        brain = batch.target > 0
        # In use the background is zero and tells where the brain is; noise there would not.
        healed = self.heal(self.with_lesions(batch.x * brain, brain, generator))
        variance = (2 * self.log_scale.float()).exp()
        density = gaussian_log_density(batch.target, healed, variance)
        log_likelihood = sum_pixels(density, brain if batch.mask is None else batch.mask).mean()
        return Loss(-log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))

    def with_lesions(
        self, x: Tensor, brain: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """``x`` with a lesion in the share ``planted`` of the slices."""
        return plant_in_slices(
            x,
            brain,
            drawing(generator, x.device),
            pixel_mm=self.options.field_of_view_mm / x.shape[-1],
            share=self.options.planted,
            options=self.planting,
        ).images


def mirror(image: Tensor, brain: Tensor) -> Tensor:
    """``image`` (n, 1, H, W) mirrored left-right about the mean column of each slice's ``brain``.

    The midline is rounded to half a pixel; what comes from beyond the border is zero.
    """
    width = image.shape[-1]
    columns = torch.arange(width, device=image.device)
    weight = brain.sum(dim=(1, 2)).to(torch.float32)
    centre = (weight * columns).sum(1) / weight.sum(1).clamp(min=1)
    twice = torch.where(weight.sum(1) > 0, (2 * centre).round(), torch.full_like(centre, width - 1))
    source = twice.long()[:, None] - columns
    inside = (source >= 0) & (source < width)
    index = source.clamp(0, width - 1)[:, None, None, :].expand(image.shape)
    return image.gather(-1, index) * inside[:, None, None, :]
