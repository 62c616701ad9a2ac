"""MAP restoration: at test time, change the slice itself until the VAE finds it likely.

You, Tezcan, Chen & Konukoglu 2019 (MIDL) and Chen, You, Tezcan & Konukoglu 2020 (Medical Image
Analysis), Unsupervised lesion detection via image restoration with a normative prior. It is trained
as the paper's VAE.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from twinvae.config.base import Documented
from twinvae.models.vae import VAE


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
    """The paper's VAE, whose reconstruction restores the slice by gradient ascent on the ELBO."""

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
