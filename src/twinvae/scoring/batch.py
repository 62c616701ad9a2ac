"""What a score may look at: the models, what scores learned before, and a batch of slices.

What the models say of a batch is computed once, on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional

from twinvae.config import ScoringConfig
from twinvae.errors import DataError
from twinvae.files import atomic_path
from twinvae.models import DiagonalGaussian, LatentModel, Model, load_twins, mirror
from twinvae.training import Compute

_REACH = 6.0  # of a smoothing kernel, in standard deviations


@dataclass(frozen=True)
class Models:
    """The two trained models of the method, in evaluation mode."""

    healthy: Model
    mixed: Model

    @classmethod
    def load(cls, folder: Path) -> Models:
        """VAE-H and VAE as ``twin_folders`` finds them in ``folder``, on the CPU."""
        return cls(*load_twins(folder))

    def to(self, device: torch.device) -> Models:
        """Move both to ``device``; returns self."""
        self.healthy.to(device)
        self.mixed.to(device)
        return self

    def computed_by(self, compute: Compute) -> Models:
        """Both, their passes in the precision of ``compute`` and their results in float32."""
        return Models(compute.network(self.healthy), compute.network(self.mixed))


Fitted = Mapping[str, Mapping[str, Tensor]]
"""By name of the ``Fit`` or ``Reference``: the arrays it learned from healthy slices, float32."""


def write_fitted(path: Path, fitted: Fitted) -> None:
    """Write what was learned, one tensor ``FIT/ARRAY`` each; nothing learned leaves no file."""
    if not fitted:
        path.unlink(missing_ok=True)
        return
    tensors = {
        f"{fit}/{name}": array.contiguous().cpu()
        for fit, arrays in fitted.items()
        for name, array in arrays.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors))  # save_file says of a full disk no OSError


def read_fitted(path: Path) -> Fitted:
    """Read what ``write_fitted`` wrote, on the CPU; nothing when there is no such file."""
    if not path.is_file():
        return {}
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: expected safetensors, found {error}") from None
    fitted: dict[str, dict[str, Tensor]] = {}
    for key, array in tensors.items():
        fit, _, name = key.partition("/")
        fitted.setdefault(fit, {})[name] = array
    return fitted


def moved(fitted: Fitted, device: torch.device) -> Fitted:
    """The same on ``device``."""
    return {
        fit: {name: array.to(device) for name, array in arrays.items()}
        for fit, arrays in fitted.items()
    }


class SliceBatch:
    """Slices and everything derived from them.

    Reconstructions and encodings are computed when the first score asks for them and shared by the
    others, so that any number of closed-form scores costs one pass of each network.

    Only the passes run in the precision of ``compute``: what they give, and all that scores make
    of it, is float32.
    """

    def __init__(
        self,
        x: Tensor,
        brain: Tensor,
        *,
        position: Tensor,
        brain_mm2: Tensor,
        pixel_mm: Tensor,
        models: Models,
        options: ScoringConfig,
        slab: Tensor | None = None,
        fitted: Fitted | None = None,
        compute: Compute | None = None,
        aligned: Tensor | None = None,
    ) -> None:
        self.x = x
        """Slices, float32 (n, 1, H, W) in [0, 1]."""
        self.slab = x if slab is None else slab
        """Each slice between its neighbours, (n, 3, H, W), for models of slabs; else ``x``."""
        self.brain = brain
        """Brain masks, bool (n, 1, H, W)."""
        self.position = position
        """Relative position, (n,): 0 at the brain's lowest slice, 1 at its highest."""
        self.brain_mm2 = brain_mm2
        """Brain area before the resize in mm², (n,)."""
        self.pixel_mm = pixel_mm
        """Side of a pixel of ``x`` in mm, (n,)."""
        self.models = models if compute is None else models.computed_by(compute)
        """The two models; their passes in the precision asked for, their results in float32."""
        self.models_in_float32 = models
        """The same, their passes in float32 too: for what bf16 would not survive."""
        self.options = options
        self.fitted: Fitted = fitted or {}
        """What fitted scores learned before, by the name of their fit."""
        self._aligned = aligned
        self._kept: dict[str, Tensor] = {}

    def showing(self, slab: Tensor) -> SliceBatch:
        """The same places of the same brains, other pictures: slices (n, 1, H, W), or slabs."""
        middle = slab.shape[1] // 2
        other = SliceBatch(
            slab[:, middle, None],
            self.brain,
            position=self.position,
            brain_mm2=self.brain_mm2,
            pixel_mm=self.pixel_mm,
            models=self.models,
            options=self.options,
            slab=slab,
            fitted=self.fitted,
            aligned=self._aligned,
        )
        other.models_in_float32 = self.models_in_float32
        return other

    def once(self, name: str, compute: Callable[[SliceBatch], Tensor]) -> Tensor:
        """``compute(self)``, done the first time ``name`` is asked for and kept."""
        if name not in self._kept:
            self._kept[name] = compute(self)
        return self._kept[name]

    @cached_property
    def x_h(self) -> Tensor:
        """Healthy reconstruction of ``x``, float32 (n, 1, H, W) in (0, 1)."""
        model = self.models.healthy
        if model.finds_lesions:
            return self._examined[0]
        if isinstance(model, LatentModel) and type(model).reconstruct is LatentModel.reconstruct:
            # The same numbers, from the encoding that other scores look at: one pass less.
            return torch.sigmoid(model.decode(self.healthy_posterior.mean)[0])
        return model.reconstruct(self.slab)

    @cached_property
    def _examined(self) -> tuple[Tensor, Tensor]:
        return self.models.healthy.examine(self.slab)

    @property
    def lesion(self) -> Tensor:
        """Probability that a pixel is lesion, as the healthy model has it, (n, 1, H, W)."""
        return self._examined[1]

    @cached_property
    def healthy_posterior(self) -> DiagonalGaussian:
        """VAE-H's encoding of ``x``."""
        return self.models.healthy.encode(self.x)

    @cached_property
    def posterior(self) -> DiagonalGaussian:
        """VAE's encoding of ``x``."""
        return self.models.mixed.encode(self.x)

    @cached_property
    def posterior_h(self) -> DiagonalGaussian:
        """VAE's encoding of ``x_h``."""
        return self.models.mixed.encode(self.x_h)

    @cached_property
    def own(self) -> Tensor:
        """VAE's own reconstruction of ``x``, float32 (n, 1, H, W) in (0, 1)."""
        return self.models.mixed.reconstruct(self.x)

    @cached_property
    def features(self) -> list[Tensor]:
        """Activations of every layer of VAE's encoder for ``x``, each (n, channels, h, w)."""
        return self.models.mixed.features(self.x)

    @cached_property
    def features_h(self) -> list[Tensor]:
        """The same for ``x_h``."""
        return self.models.mixed.features(self.x_h)

    @cached_property
    def residual(self) -> Tensor:
        """What is left of ``x`` without ``x_h``: x − x_h, float32 (n, 1, H, W) in (−1, 1)."""
        return self.x - self.x_h

    @cached_property
    def inside(self) -> Tensor:
        """``brain`` as float32 0 and 1, which multiplies faster than a bool."""
        return self.brain.float()

    @cached_property
    def mirror(self) -> Tensor:
        """Mirror image of ``x``, float32 (n, 1, H, W) in [0, 1], 0 where there is none.

        The one that the recipe's step align_mirror made; without it, ``x`` flipped left to right
        about the midline of the slice's brain.
        """
        return mirror(self.x, self.brain) if self._aligned is None else self._aligned

    @cached_property
    def mirrored(self) -> Tensor:
        """Where the mirror image has brain, float32 (n, 1, H, W), 0 or 1."""
        if self._aligned is None:
            return mirror(self.inside, self.brain)
        return (self._aligned > 0).float()

    @cached_property
    def core(self) -> Tensor:
        """The brain without its rim of ``rim_mm``, bool (n, 1, H, W)."""
        return erode(self.brain, self.options.rim_mm, self.pixel_mm)

    @cached_property
    def brain_pixels(self) -> Tensor:
        """Pixels of the brain, float32 (n,); 1 where there are none, to be divided by."""
        return self.inside.flatten(1).sum(1).clamp(min=1)

    @cached_property
    def _beyond_brain(self) -> Tensor:
        return _barrier(self.brain)

    def smooth(self, image: Tensor) -> Tensor:
        """``image`` (n, 1, H, W) under a Gaussian of ``local_fwhm_mm``; zero beyond the border."""
        return gaussian_smooth(image, self.options.local_fwhm_mm / self.pixel_mm)

    def brain_mean(self, image: Tensor) -> Tensor:
        """Mean of ``image`` (n, 1, H, W) over the brain, (n,); 0 if empty."""
        return (image * self.inside).flatten(1).sum(1) / self.brain_pixels

    def brain_max(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maximum of ``image`` (n, 1, H, W) over the brain (or ``mask``), (n,); 0 if empty."""
        barrier = self._beyond_brain if mask is None else _barrier(mask)
        best = (image + barrier).flatten(1).amax(1)
        return torch.where(best.isinf(), torch.zeros_like(best), best)


def _barrier(mask: Tensor) -> Tensor:
    """0 inside ``mask``, −∞ outside: adding it is several times faster than filling."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)


def gaussian_smooth(image: Tensor, fwhm_px: Tensor) -> Tensor:
    """Convolve ``image`` (n, 1, H, W) with a Gaussian of its own width each, ``fwhm_px`` (n,).

    Separable, as a product with one banded matrix per axis; values beyond the border count as 0.
    """
    sigma = (fwhm_px / 2.3548200450309493).to(image)  # 2·sqrt(2·ln 2)
    widths, which = torch.unique(sigma, return_inverse=True)
    rows = _kernel(image.shape[-2], widths)
    columns = _kernel(image.shape[-1], widths)
    # Slices of one cohort share a width: one matrix for all is several times faster.
    pick = 0 if len(widths) == 1 else which
    return (rows[pick] @ image.squeeze(1) @ columns[pick].mT).unsqueeze(1)


def _kernel(side: int, sigma: Tensor) -> Tensor:
    """Banded smoothing matrices (n, side, side); each full row sums to one away from the border.

    Weights beyond ``_REACH`` are 0: they are less than float32 resolves, and the denormal numbers
    among them make a product many times slower.
    """
    at = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
    sigma = sigma.view(-1, 1, 1)
    away = (at[:, None] - at).abs() / sigma
    weights = torch.exp(-0.5 * away.square()).masked_fill(away > _REACH, 0)
    reach = torch.arange(-side, side + 1, device=sigma.device, dtype=sigma.dtype)
    total = torch.exp(-0.5 * (reach / sigma).square()).sum(-1, keepdim=True)
    return weights / total


def erode(mask: Tensor, rim_mm: float, pixel_mm: Tensor) -> Tensor:
    """``mask`` (n, 1, H, W), bool, without a rim, by a square window (pixel size of the first)."""
    reach = round(rim_mm / float(pixel_mm[0]))
    if not reach:
        return mask
    outside = functional.pad((~mask).float(), (reach,) * 4, value=1.0)
    return window_maximum(outside, reach)[..., reach:-reach, reach:-reach] == 0


def window_maximum(image: Tensor, reach: int) -> Tensor:
    """Maximum of ``image`` (n, c, H, W) in the square of 2 · ``reach`` + 1 pixels around each.

    By shifting it along one axis and then the other: as exact as max_pool2d, and on a CPU several
    times faster.
    """
    for axis in (-2, -1):
        size = image.shape[axis]
        beyond = (0, 0, reach, reach) if axis == -2 else (reach, reach)
        padded = functional.pad(image, beyond, value=-torch.inf)
        shifts = (padded.narrow(axis, shift, size) for shift in range(2 * reach + 1))
        image = reduce(torch.maximum, shifts)
    return image
