"""Denoising autoencoder: a U-Net that removes coarse noise, and with it what looks like a lesion.

Kascenas, Pugeault & O'Neil 2022, Denoising autoencoders for unsupervised anomaly detection in
brain MRI. Skip connections keep all detail; coarse noise keeps the copy from being the answer.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import ModelConfig
from twinvae.config.base import Documented
from twinvae.models.contract import Loss
from twinvae.models.likelihood import log_density, sum_pixels
from twinvae.models.unet import UNet


class DenoisingOptions(Documented):
    """Settings of the noise."""

    noise_std: float = Field(default=0.2, gt=0)
    """Standard deviation of the coarse noise, in intensity units of [0, 1]."""
    noise_cells: int = Field(default=16, ge=1)
    """Independent draws along each side of the image, interpolated in between; the paper's 16
    make spots of a sixteenth of the image."""


class DenoisingAutoencoder(UNet):
    """A U-Net with skip connections that removes coarse noise; it has no encoding."""

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
        x: Tensor,
        target: Tensor,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        mask: Tensor | None = None,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(target | x + coarse noise); the noise falls where ``target`` is not black."""
        noise = self.coarse_noise(x, generator) * (target > 0)
        mean, variance = self.denoise(x + noise)
        density = log_density(target, mean, variance, self.config)
        log_likelihood = sum_pixels(density, mask).mean()
        return Loss(-log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))

    def coarse_noise(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Low-resolution noise, interpolated to the shape of ``x`` and shifted at random."""
        cells, size = self.options.noise_cells, x.shape[-2:]
        shape = (len(x), 1, cells, cells)
        noise = torch.randn(shape, generator=generator, device=x.device) * self.options.noise_std
        fine = functional.interpolate(noise, size=size, mode="bilinear", align_corners=False)
        by = torch.randint(size[0], (2,), generator=generator, device=x.device).tolist()
        return fine.roll(by, dims=(-2, -1))
