"""What a model is and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from twinvae.config.base import Documented


class ModelConfig(Documented):
    """One autoencoder; the defaults are the paper's VAE-H."""

    kind: str = "vae"
    """Which model; `twinvae models list` names them."""
    image_size: int = Field(default=64, ge=16, le=512)
    """Side of the square input, in pixels; a multiple of 2 to the number of encoder channels."""
    encoder_channels: tuple[int, ...] = Field(default=(64, 128, 256, 512), min_length=1)
    """Output channels of each 4×4 convolution of stride 2."""
    decoder_channels: tuple[int, ...] = (256, 128, 64)
    """Output channels of each 4×4 transposed convolution of stride 2; one more, with one output
    channel, gives the image. One entry fewer than the encoder has."""
    latent_size: int = Field(default=128, ge=1)
    """Number of latent variables."""
    activation: Literal["elu", "leaky_relu"] = "elu"
    """Non-linearity after each hidden layer."""
    likelihood: Literal["logit_normal", "gaussian", "laplace"] = "logit_normal"
    """Distribution of a pixel given the latent variables: normal in logit space (the paper's), or
    normal (squared error) or Laplace (absolute error) around the reconstruction itself."""
    variance: Literal["scalar", "per_pixel"] = "scalar"
    """Variance of the likelihood (in logit space for the logit-normal): one learned number, or one
    per pixel from a convolution of its own."""
    min_variance: float = Field(default=0.001, gt=0)
    """Added to softplus(p)², so that the likelihood stays bounded."""
    clip: float = Field(default=0.01, gt=0, lt=0.5)
    """Pixels are clipped to [clip, 1 − clip] before their logit-normal density is taken."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings that only this kind has; `twinvae models show KIND` explains them."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if len(self.decoder_channels) != len(self.encoder_channels) - 1:
            raise ValueError(
                f"decoder_channels must have one entry fewer than encoder_channels "
                f"({len(self.encoder_channels) - 1}), found {len(self.decoder_channels)}"
            )
        if self.image_size % 2 ** len(self.encoder_channels):
            raise ValueError(
                f"image_size must be a multiple of {2 ** len(self.encoder_channels)}, "
                f"found {self.image_size}"
            )
        if min(self.encoder_channels + self.decoder_channels) < 1:
            raise ValueError("channels must be positive")
        return self


class AugmentConfig(Documented):
    """Random changes to a training slice; the target of the reconstruction stays noise-free."""

    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a left-right flip."""
    brightness: float = Field(default=0.1, ge=0, lt=1)
    """Intensities are multiplied by a factor drawn uniformly from 1 ± brightness."""
    noise: float = Field(default=0.01, ge=0, le=1)
    """Standard deviation of the white noise added to the input, in intensity units of [0, 1]."""
    turn_deg: float = Field(default=0.0, ge=0, le=45)
    """Slices are turned by an angle drawn uniformly from ± this."""
    stretch: float = Field(default=0.0, ge=0, lt=0.5)
    """Each axis is stretched by a factor drawn uniformly from 1 ± stretch."""
    gamma: float = Field(default=0.0, ge=0, lt=1)
    """Intensities are raised to a power whose logarithm is drawn uniformly from ± gamma."""
    bias: float = Field(default=0.0, ge=0, lt=0.5)
    """Standard deviation of a smooth field that intensities are multiplied with."""
    recolour: float = Field(default=0.0, ge=0, le=1)
    """Probability that intensities go through a random curve, rising or not: the same anatomy in a
    contrast that no scanner gives."""


class AdaptConfig(Documented):
    """More training of the healthy model, on mixed slices too, where they look healthy to it.

    Teacher and student: in each round the present model says which pixels of the mixed training
    slices are calm; it then goes on learning, from lesions planted in healthy and in mixed slices,
    and what was not calm does not count. No tumour label is used. Only for kinds that look for
    lesions.
    """

    rounds: int = Field(default=0, ge=0)
    """How often; 0: not at all."""
    epochs: int = Field(default=2, ge=1)
    """Passes through healthy and mixed training slices in each round."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Adam's step size at the start of each round."""
    calm: float = Field(default=0.15, gt=0, lt=1)
    """Pixels are calm where the smoothed probability of a lesion is below this."""


class TrainConfig(Documented):
    """How one model is fitted; the defaults are the paper's."""

    data: Literal[
        "own", "healthy", "mixed", "pooled", "none", "mixed_and_healthy_reconstructions"
    ] = "own"
    """Training slices: the model's own role's, one role's, or both together; `none` keeps the
    random weights, or those of `start`; the last adds VAE-H's reconstructions of the mixed training
    slices, so that a blurred slice is not foreign to the encoder. All but `own` are ablations or
    variants of the method."""
    labels: Path | None = None
    """Folder of label maps on which slabs are painted and cut as training goes, in place of `data`:
    endless brains in contrasts real and invented. Only for kinds that see slabs."""
    painted: int = Field(default=16000, ge=1)
    """With `labels`: slabs that make an epoch."""
    start: Path | None = None
    """Folder of a trained model of the same kind and widths whose weights training starts from."""
    half: bool = False
    """Round the weights to half precision in the end; a packed bundle then takes half the room."""
    adapt: AdaptConfig = AdaptConfig()
    """What follows on mixed slices; only for the healthy model."""
    epochs: int = Field(default=200, ge=1)
    """Passes through the training slices."""
    batch_size: int = Field(default=32, ge=1)
    """Slices per optimiser step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Adam's step size at the start; betas are 0.9 and 0.999."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` lets the step size fall to 2 % of its start along half a cosine."""
    posterior_samples: int = Field(default=3, ge=1)
    """Samples of the latent variables per slice in the ELBO."""
    kl_weight: float = Field(default=1.0, ge=0)
    """Weight of the KL term once the ramp is over; 1 is the ELBO."""
    kl_ramp_epochs: float = Field(default=5, ge=0)
    """The KL weight rises linearly from 0 over this many epochs."""
    mask_background: bool = False
    """Sum the log-likelihood over brain pixels only: the ELBO restricted to the brain mask."""
    clip_norm: float = Field(default=1000.0, gt=0)
    """Largest global norm of the gradient."""
    augment: AugmentConfig = AugmentConfig()
    """Augmentation of the training slices."""


class NetworksConfig(Documented):
    """The two models of the method."""

    healthy: ModelConfig
    """VAE-H, trained on healthy slices; it gives x_h."""
    mixed: ModelConfig
    """VAE, trained on mixed slices; it gives the encodings that are compared."""

    @model_validator(mode="after")
    def _same_size(self) -> Self:
        if self.healthy.image_size != self.mixed.image_size:
            raise ValueError(
                f"both models need one image_size, found {self.healthy.image_size} "
                f"and {self.mixed.image_size}"
            )
        return self


class TrainingConfig(Documented):
    """How each model is fitted."""

    healthy: TrainConfig = TrainConfig()
    """Training of VAE-H."""
    mixed: TrainConfig = TrainConfig()
    """Training of VAE."""

    @model_validator(mode="after")
    def _healthy_comes_first(self) -> Self:
        if self.healthy.data == "mixed_and_healthy_reconstructions":
            raise ValueError(
                "healthy.data must not be 'mixed_and_healthy_reconstructions': the healthy model "
                "makes them"
            )
        return self
