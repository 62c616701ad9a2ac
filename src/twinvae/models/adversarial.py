"""Adversarial autoencoder: a second network makes the codes look like draws from the prior.

Makhzani, Shlens, Jaitly, Goodfellow & Frey 2015, Adversarial autoencoders; for this task, and in
its constrained form, Chen & Konukoglu 2018, Unsupervised detection of lesions in brain MRI using
constrained adversarial auto-encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import Documented, ModelConfig
from twinvae.models.autoencoders import DenseAutoencoder
from twinvae.models.contract import Loss, TrainingBatch


class AdversarialOptions(Documented):
    """Settings of the adversary."""

    adversary_width: int = Field(default=256, ge=1)
    """Units of each of the adversary's two hidden layers."""
    adversarial_weight: float = Field(default=1.0, ge=0)
    """Weight of the term that fools the adversary, per latent variable."""


class ConstrainedOptions(AdversarialOptions):
    """Settings of the adversary and of the constraint."""

    consistency_weight: float = Field(default=1.0, ge=0)
    """Weight of the squared distance between the codes of a slice and of its reconstruction."""


class AdversarialAutoencoder(DenseAutoencoder):
    """An autoencoder whose codes an adversary cannot tell from the prior N(0, I)."""

    Options = AdversarialOptions
    source: ClassVar[str] = "Makhzani et al. 2015; for this task Chen & Konukoglu 2018"
    options: AdversarialOptions

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        width = self.options.adversary_width
        self.adversary = nn.Sequential(
            nn.Linear(config.latent_size, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def adversary_parameters(self) -> Sequence[nn.Parameter]:
        """The adversary's."""
        return list(self.adversary.parameters())

    def adversary_loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """−log D(z) − log(1 − D(code)) for z ~ N(0, I); the codes are taken as they are."""
        with torch.no_grad():
            code = self.encode(x).mean
        prior = torch.randn(code.shape, generator=generator, device=code.device)
        real, found = self.adversary(prior).float(), self.adversary(code).float()
        return (functional.softplus(-real) + functional.softplus(found)).mean()

    def loss(
        self,
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """−log p(target | code) + kl_weight · w · latent_size · (−log D(code)).

        The last term, less ``kl_weight``, is reported as ``kl``; counted per latent variable it
        weighs about as much as the KL that it replaces.
        """
        code = self.encode(batch.x).mean
        log_likelihood = self.log_likelihood(batch.target, code[None], batch.mask).mean()
        fooling = functional.softplus(-self.adversary(code).float()).mean()
        prior = self.options.adversarial_weight * self.config.latent_size * fooling
        constraint = self.constraint(code)
        return Loss(kl_weight * prior + constraint - log_likelihood, log_likelihood, prior)

    def constraint(self, code: Tensor) -> Tensor:
        """What else the objective asks of a ``code`` (batch, latent); nothing here."""
        return code.new_zeros(())


class ConstrainedAdversarialAutoencoder(AdversarialAutoencoder):
    """An adversarial autoencoder whose reconstructions must have the codes of their slices."""

    Options = ConstrainedOptions
    source: ClassVar[str] = "Chen & Konukoglu 2018 (constrained AAE)"
    options: ConstrainedOptions

    def constraint(self, code: Tensor) -> Tensor:
        """Weight · ‖code − E(G(code))‖², a mean over the batch: neighbours in code look alike."""
        again = self.encode(torch.sigmoid(self.decode(code)[0])).mean
        return self.options.consistency_weight * (code - again).square().sum(1).mean()
