"""The paper's networks, trained or used another way: the classes say whose idea each is.

``ContextVAE`` must also fill in what is cut out of a slice. ``RestorationVAE`` is trained as the
paper's and restores a slice step by step. ``ConditionalVAE`` serves both roles.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import Documented, ModelConfig
from twinvae.models.contract import Loss, TrainingBatch
from twinvae.models.vae import VAE
from twinvae.vocabulary import ROLES, Role


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
    """A VAE that also learns to fill in squares cut out of its input.

    Zimmerer, Kohl, Petersen, Isensee & Maier-Hein 2019, Context-encoding variational autoencoder
    for unsupervised anomaly detection (MIDL).
    """

    Options = ContextOptions
    source: ClassVar[str] = "Zimmerer et al. 2019 (ceVAE)"
    options: ContextOptions

    def loss(
        self,
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """(1 − w) · (−ELBO of x) + w · (−log p(target | μ(x with squares cut out)))."""
        whole = super().loss(batch, samples=samples, kl_weight=kl_weight, generator=generator)
        code = self.encode(self.cut(batch.x, generator)).mean
        context = self.log_likelihood(batch.target, code[None], batch.mask).mean()
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


class RestorationOptions(Documented):
    """Settings of the restoration."""

    steps: int = Field(default=50, ge=1)
    """Steps of gradient ascent; each costs a forward and a backward pass."""
    step_size: float = Field(default=0.02, gt=0)
    """Root mean square change of a pixel in the first step, in intensity units of [0, 1]; it falls
    linearly towards zero."""
    penalty: Literal["tv", "l1"] = "tv"
    """What keeps the restored slice near the given one: total variation or sum of the absolute
    values of their difference."""
    penalty_weight: float = Field(default=5.0, ge=0)
    """Nats per unit of the penalty."""


class RestorationVAE(VAE):
    """The paper's VAE, whose reconstruction restores the slice by gradient ascent on the ELBO.

    You, Tezcan, Chen & Konukoglu 2019 (MIDL) and Chen, You, Tezcan & Konukoglu 2020 (Medical Image
    Analysis), Unsupervised lesion detection via image restoration with a normative prior.
    """

    Options = RestorationOptions
    source: ClassVar[str] = "You et al. 2019; Chen et al. 2020 (MAP restoration)"
    options: RestorationOptions

    def reconstruct(self, x: Tensor) -> Tensor:
        """The argmax over r in [0, 1] of ELBO(r) − w · penalty(r − x), started at r = x.

        Always in float32: in bf16 the small steps would be lost.
        """
        here = torch.autocast(x.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), here:
            given = x.detach().float().clone()
            restored = given
            for step in range(self.options.steps):
                uphill = self._gradient(restored, given)
                scale = uphill.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
                size = self.options.step_size * (1 - step / self.options.steps)
                restored = (restored + size * uphill / scale).clamp(0, 1)
        return restored

    def restoration_objective(self, restored: Tensor, given: Tensor) -> Tensor:
        """What restoration maximises, (batch,), for slices (batch, 1, H, W).

        log p(r | μ(r)) − KL(q(z | r) ‖ N(0, I)) − w · penalty(r − x), with the posterior's mean in
        place of samples. For the logit-normal the density is that of logit r, whose mode is the
        decoder's mean; the density of r itself is highest at black and white.
        """
        q = self.encode(restored)
        likelihood = self.log_likelihood(restored, q.mean[None]).squeeze(0)
        if self.config.likelihood == "logit_normal":
            inside = restored.clamp(self.config.clip, 1 - self.config.clip)
            likelihood = likelihood + (inside.log() + torch.log1p(-inside)).flatten(1).sum(1)
        return (
            likelihood
            - q.kl_to_prior()
            - self.options.penalty_weight * self._penalty(restored - given)
        )

    def _gradient(self, restored: Tensor, given: Tensor) -> Tensor:
        at = restored.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.restoration_objective(at, given).sum(), at)
        return gradient

    def _penalty(self, difference: Tensor) -> Tensor:
        """Total variation (anisotropic, zero beyond the border) or L1 norm; (batch,)."""
        if self.options.penalty == "l1":
            return difference.abs().flatten(1).sum(1)
        padded = functional.pad(difference, (1, 1, 1, 1))
        steps = (padded.diff(dim=-1).abs(), padded.diff(dim=-2).abs())
        return sum(
            (part.flatten(1).sum(1) for part in steps), torch.zeros_like(difference[:, 0, 0, 0])
        )


class ConditionalVAE(VAE):
    """One VAE for both roles, its decoder conditioned on the type of data set (healthy, mixed).

    Announced in the conclusions of Albu, Enescu & Malagò 2020; conditioning as in Sohn, Lee & Yan
    2015, Learning structured output representation using deep conditional generative models. The
    encoder is not told: a slice to be judged has no known type, and its encoding must not depend on
    a guess.
    """

    source: ClassVar[str] = "Albu, Enescu & Malagò 2020, conclusions; Sohn, Lee & Yan 2015"
    conditional: ClassVar[bool] = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.expand = nn.Linear(config.latent_size + len(ROLES), self.flat)
        self.role: Role = "healthy"

    def for_role(self, role: Role) -> Self:
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
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−E_q(z|x)[log p(target | z, condition)] + kl_weight · KL(q(z|x) ‖ N(0, I))."""
        if batch.condition is None:
            raise ValueError("condition: expected a number of ROLES for each slice, found None")
        q = self.encode(batch.x)
        z = with_condition(q.sample(samples, generator), batch.condition)
        log_likelihood = self.log_likelihood(batch.target, z, batch.mask).mean()
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
