"""The contract every model keeps, and the posterior and sums of pixels that it speaks of.

A new model is one file that keeps it and one registry line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config import Documented, ModelConfig, validated
from twinvae.errors import ConfigError
from twinvae.vocabulary import Role

_TINY = 1e-6  # keeps the variance away from zero when softplus underflows


@dataclass(frozen=True)
class TrainingBatch:
    """Slices as one step of training sees them."""

    x: Tensor
    """What the model is given, (batch, 1, H, W), or (batch, 3, H, W) for a model of slabs:
    intensities in [0, 1], perhaps with noise."""
    target: Tensor
    """What it should make of them: the same slices without noise, likewise."""
    mask: Tensor | None = None
    """Pixels whose likelihood counts, (batch, 1, H, W), bool; all where there is none."""
    condition: Tensor | None = None
    """(batch,) int64, the number in ``ROLES`` of each slice's role; for conditional models."""


class Loss(NamedTuple):
    """Terms of the objective, each a mean over the batch, in nats a slice."""

    objective: Tensor
    """What is minimised; for a plain VAE −log_likelihood + kl_weight · kl."""
    log_likelihood: Tensor
    """E_q[log p(x | z)], summed over pixels."""
    kl: Tensor
    """KL(q(z | x) ‖ p(z)), or what the model has in its place; 0 where it has nothing."""


def full_precision(given: Tensor) -> Tensor:
    """``given`` in float32 if a network left it in a shorter type; else as it is.

    Densities and divergences are sums of thousands of terms and differences of near equals.
    """
    return given.float() if given.dtype in (torch.bfloat16, torch.float16) else given


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z | x) = N(mean, diag(variance)); both of shape (batch, latent)."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def from_parameters(cls, mean: Tensor, raw: Tensor) -> DiagonalGaussian:
        """Variance = softplus(raw)² + tiny, in float32 whatever the network computed in."""
        return cls(mean.float(), functional.softplus(raw.float()).square() + _TINY)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``count`` reparametrised samples; shape (count, batch, latent)."""
        noise = torch.randn((count, *self.mean.shape), generator=generator, device=self.mean.device)
        return self.mean + noise * self.variance.sqrt()

    def kl_to_prior(self) -> Tensor:
        """KL(q ‖ N(0, I)) in nats, shape (batch,). Kingma & Welling 2014, appendix B."""
        mean, variance = full_precision(self.mean), full_precision(self.variance)
        terms = mean.square() + variance - 1.0 - variance.log()
        return 0.5 * terms.sum(dim=-1)


def drawing(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """``generator``, or torch's global one of ``device``: a GPU does not draw from the CPU's."""
    if generator is not None:
        return generator
    if device.type != "cuda":
        return torch.default_generator
    number = torch.cuda.current_device() if device.index is None else device.index
    found: torch.Generator = torch.cuda.default_generators[number]
    return found


def sum_pixels(density: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of ``density`` (…, batch, 1, H, W) over pixels, or those inside ``mask``; (…, batch)."""
    density = full_precision(density)
    if mask is not None:
        density = density * mask
    return density.flatten(-3).sum(-1)


class NoOptions(Documented):
    """A kind that has none."""


class Model(nn.Module, ABC):
    """An autoencoder of slices x, float (batch, 1, H, W) in [0, 1].

    In evaluation mode every result for a slice is independent of the others in the batch, and the
    same each time. A kind with settings of its own names their pydantic model as ``Options``; they
    come from ``ModelConfig.options`` and are refused when unknown.
    """

    Options: ClassVar[type[Documented]] = NoOptions
    source: ClassVar[str] = ""
    """Where the model was published."""
    has_encoding: ClassVar[bool] = True
    """Whether ``encode`` means anything; where not, it raises ``ConfigError``."""
    variational: ClassVar[bool] = False
    """Whether ``encode`` gives a learned variance, so that KL and ELBO mean what they say."""
    slab: ClassVar[bool] = False
    """Whether it sees a slice between two neighbours, (batch, 3, H, W) (``imaging.slabs``)."""
    finds_lesions: ClassVar[bool] = False
    """Whether ``examine`` means anything; where not, it raises ``ConfigError``."""
    conditional: ClassVar[bool] = False
    """Whether one training serves both roles; ``loss`` then needs a ``condition``."""

    options: Documented

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.options = validated(self.Options, config.options, f"options of kind {config.kind}")

    @abstractmethod
    def features(self, x: Tensor) -> list[Tensor]:
        """Activations of every encoder layer for ``x``, in order, each (batch, channels, h, w)."""

    def encode(self, x: Tensor) -> DiagonalGaussian:
        """Posterior of the latent variables given ``x``; mean and variance (batch, latent).

        A deterministic code c is given as N(c, I): then L2 and 2-Wasserstein distances are
        ‖c − c'‖ and KL is ½‖c − c'‖², and nothing depends on a variance nobody learned.
        """
        raise ConfigError(f"kind {self.config.kind}: has no encoding; choose another model")

    def log_density(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x | z) of every pixel in nats, (samples, batch, 1, H, W).

        ``x`` is (batch, 1, H, W) and ``z`` (samples, batch, latent).
        """
        raise ConfigError(f"kind {self.config.kind}: has no encoding; choose another model")

    def log_likelihood(self, x: Tensor, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log p(x | z) in nats, summed over pixels, or over those inside ``mask``.

        ``x`` is (batch, 1, H, W), ``mask`` likewise (bool), and ``z`` (samples, batch, latent);
        returns (samples, batch).
        """
        return sum_pixels(self.log_density(x, z), mask)

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstruction of ``x``, float32 (batch, 1, H, W) in [0, 1]; nothing is sampled."""

    def examine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction of ``x``, and the probability that a pixel is lesion, both in one pass.

        Both (batch, 1, H, W) in [0, 1]; lesions were learned from planted ones.
        """
        raise ConfigError(f"kind {self.config.kind}: does not look for lesions")

    @abstractmethod
    def loss(
        self,
        batch: TrainingBatch,
        *,
        samples: int = 1,
        kl_weight: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """What training minimises, for ``batch.target`` given its (possibly noisy) copy.

        ``samples`` of the latent variables are drawn from ``generator`` where any are drawn, and
        ``kl_weight`` weighs the KL or what the model has in its place.
        """

    def adversary_parameters(self) -> Sequence[nn.Parameter]:
        """Parameters that a second optimiser trains against the rest; none for most models."""
        return ()

    def adversary_loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What that optimiser minimises for ``x``, a scalar; only asked if it has parameters."""
        raise NotImplementedError

    def for_role(self, role: Role) -> Self:
        """The twin of that role: this model itself, unless it is conditional."""
        return self
