"""One VAE for both roles: the decoder is told which type of data set a slice is from.

Announced in the conclusions of Albu, Enescu & Malagò 2020; conditioning as in Sohn, Lee & Yan 2015,
Learning structured output representation using deep conditional generative models. The encoder is
not told: a slice to be judged has no known type, and its encoding must not depend on a guess.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import ModelConfig
from twinvae.config.base import Documented
from twinvae.models.contract import ROLES, Loss
from twinvae.models.vae import VAE


class ConditionalVAE(VAE):
    """One VAE for both roles, its decoder conditioned on the type of data set (healthy, mixed)."""

    source: ClassVar[str] = "Albu, Enescu & Malagò 2020, conclusions; Sohn, Lee & Yan 2015"
    conditional: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.expand = nn.Linear(config.latent_size + len(ROLES), self.flat)
        self.role: Literal["healthy", "mixed"] = "healthy"

    def for_role(self, role: Literal["healthy", "mixed"]) -> Self:
        """A view that decodes as that role; it shares all weights with this one.

        As `healthy` it reconstructs any slice as if it were from the healthy source.
        """
        view = copy.copy(self)
        view.role = role
        return view

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """As ``LatentModel.decode``; ``z`` (batch, latent) is decoded as this view's role.

        ``z`` (batch, latent + 2) brings its own condition, as ``with_condition`` appends it.
        """
        if z.shape[-1] == self.config.latent_size:
            condition = torch.full((len(z),), ROLES.index(self.role), device=z.device)
            z = with_condition(z, condition)
        return super().decode(z)

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
        """−E_q(z|x)[log p(target | z, condition)] + kl_weight · KL(q(z|x) ‖ N(0, I))."""
        if condition is None:
            raise ValueError("condition: expected a number of ROLES for each slice, found None")
        q = self.encode(x)
        z = with_condition(q.sample(samples, generator), condition)
        log_likelihood = self.log_likelihood(target, z, mask).mean()
        kl = q.kl_to_prior().mean()
        return Loss(kl_weight * kl - log_likelihood, log_likelihood, kl)


def with_condition(z: Tensor, condition: Tensor) -> Tensor:
    """``z`` (…, batch, latent) with the one-hot ``condition`` (batch,) appended."""
    hot = functional.one_hot(condition, len(ROLES)).to(z)
    return torch.cat([z, hot.expand(*z.shape[:-1], -1)], dim=-1)


class LabelledOptions(Documented):
    """How many labels are used."""

    labelled_patients: int = Field(default=10, ge=1)
    """Training subjects of the mixed source whose tumour masks are used: their tumour-free slices
    count as healthy. They are drawn by the run's seed among those with a mask."""


class ConditionalVAELabelled(ConditionalVAE):
    """The conditional VAE, told which slices of a few labelled patients are tumour-free."""

    Options = LabelledOptions
    source: ClassVar[str] = "Albu, Enescu & Malagò 2020, conclusions (use of a few labels)"
    options: LabelledOptions
