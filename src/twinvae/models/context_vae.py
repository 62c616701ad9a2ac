"""Context-encoding VAE: it must also fill in what is cut out of a slice.

Zimmerer, Kohl, Petersen, Isensee & Maier-Hein 2019, Context-encoding variational autoencoder for
unsupervised anomaly detection (MIDL).
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from twinvae.config.base import Documented
from twinvae.models.contract import Loss
from twinvae.models.vae import VAE


class ContextOptions(Documented):
    """Settings of context encoding."""

    context_weight: float = Field(default=0.5, ge=0, lt=1)
    """Share of the objective that filling in has; the negative ELBO has the rest."""
    patches: int = Field(default=3, ge=1)
    """Squares cut out of every slice; they may overlap."""
    smallest_patch: float = Field(default=0.125, gt=0, le=1)
    """Side of the smallest square, as a share of the image's."""
    largest_patch: float = Field(default=0.375, gt=0, le=1)
    """Side of the largest one."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.smallest_patch > self.largest_patch:
            raise ValueError(
                f"smallest_patch must not exceed largest_patch {self.largest_patch:g}, "
                f"found {self.smallest_patch:g}"
            )
        return self


class ContextVAE(VAE):
    """A VAE that also learns to fill in squares cut out of its input."""

    Options = ContextOptions
    source: ClassVar[str] = "Zimmerer et al. 2019 (ceVAE)"
    options: ContextOptions

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
        """(1 − w) · (−ELBO of x) + w · (−log p(target | μ(x with squares cut out)))."""
        whole = super().loss(
            x, target, samples=samples, kl_weight=kl_weight, mask=mask, generator=generator
        )
        code = self.encode(self.cut(x, generator)).mean
        context = self.log_likelihood(target, code[None], mask).mean()
        weight = self.options.context_weight
        return whole._replace(objective=(1 - weight) * whole.objective - weight * context)

    def cut(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``x`` (batch, 1, H, W) with squares of random place and side set to 0."""
        options, (height, width) = self.options, x.shape[-2:]
        shape = (3, len(x), options.patches, 1, 1)
        draw = torch.rand(shape, generator=generator, device=x.device)
        spread = options.largest_patch - options.smallest_patch
        side = (options.smallest_patch + spread * draw[0]) * height
        rows = torch.arange(height, device=x.device).view(-1, 1) + 0.5  # pixels by their centres
        columns = torch.arange(width, device=x.device) + 0.5
        top, left = draw[1] * (height - side), draw[2] * (width - side)
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        return x.masked_fill(inside.any(1, keepdim=True), 0.0)
