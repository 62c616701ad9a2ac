"""What a model is trained on: which slices, as tensors, and how they are changed at random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from twinvae.config import AugmentConfig, TrainConfig
from twinvae.errors import ConfigError
from twinvae.imaging import SliceStore
from twinvae.imaging.slabs import Slabs
from twinvae.models import Model
from twinvae.training.compute import Compute, sent, to_tensor
from twinvae.vocabulary import FULL_SCALE, ROLES

_BATCH = 256
_CURVE_KNOTS = 6
_BIAS_CELLS = 4  # knots of the smooth field along each side: no detail finer than a lobe


class TrainingData(Protocol):
    """What ``fit`` trains on: numbered slices or slabs."""

    @property
    def train(self) -> NDArray[np.intp]:
        """Numbers of those to train on."""

    @property
    def val(self) -> NDArray[np.intp]:
        """Numbers of those to watch; only their ELBO is logged, it decides nothing."""

    def batch(
        self, rows: NDArray[np.intp], device: torch.device, generator: torch.Generator
    ) -> Tensor:
        """Slices ``rows`` as float32 (len(rows), 1, H, W) in [0, 1], or slabs, of 3 slices."""

    def mask(self, rows: NDArray[np.intp], device: torch.device, *, brain: bool) -> Tensor | None:
        """Which pixels count, bool (len(rows), 1, H, W), perhaps of the ``brain``; None: all."""

    def conditions(self, rows: NDArray[np.intp], device: torch.device) -> Tensor | None:
        """Their conditions as int64 (len(rows),); None where the model has none."""

    def content(self, rows: NDArray[np.intp]) -> str:
        """Changes with everything that training sees of ``rows``, in their order."""


@dataclass(frozen=True)
class SliceData:
    """Slices of one role: the store's images and the rows to train on and to watch."""

    images: NDArray[np.uint16]
    """(n, H, W), intensity in [0, 1] times 65535; usually memory-mapped."""
    brain: NDArray[np.uint8]
    """(n, H, W), 1 inside the brain; likewise."""
    train: NDArray[np.intp]
    """Row numbers of training slices."""
    val: NDArray[np.intp]
    """Row numbers of validation slices; only their ELBO is logged, it decides nothing."""
    slabs: Slabs | None = None
    """Every slice's neighbours; only for models that see slabs."""
    calm: NDArray[np.uint8] | None = None
    """(n, H, W), 1 where the slice looks healthy to the model that is to be adapted; None: all."""
    resident: Tensor | None = None
    """``images`` on the device that trains, as int16; see ``on_device``."""
    condition: NDArray[np.int64] | None = None
    """(n,), the number in ``ROLES`` of each slice's role; only for conditional models."""

    def batch(
        self,
        rows: NDArray[np.intp],
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As ``TrainingData.batch``; stored slices need no generator."""
        if self.resident is not None:
            stored = self.resident[torch.from_numpy(rows).to(device)].int() & FULL_SCALE
            return (stored.float() / FULL_SCALE).unsqueeze(1)
        if self.slabs is None:
            return to_tensor(self.images[rows], device)
        return sent(torch.from_numpy(self.slabs.cut(self.images, rows)), device)

    def on_device(self, device: torch.device) -> Self:
        """The same, all slices kept on ``device``: 205 MB for 25,000 of 64×64."""
        if self.slabs is not None:
            return self
        # The bits of uint16, in a type that every device can index.
        stored = torch.from_numpy(np.ascontiguousarray(self.images).view(np.int16))
        return replace(self, resident=stored.to(device))

    def mask(self, rows: NDArray[np.intp], device: torch.device, *, brain: bool) -> Tensor | None:
        """As ``TrainingData.mask``: calm ones, of the ``brain``."""
        masks = ([self.brain] if brain else []) + ([] if self.calm is None else [self.calm])
        if not masks:
            return None
        counts = np.logical_and.reduce([mask[rows] > 0 for mask in masks])
        return sent(torch.from_numpy(counts), device).unsqueeze(1)

    def conditions(self, rows: NDArray[np.intp], device: torch.device) -> Tensor | None:
        """As ``TrainingData.conditions``."""
        return None if self.condition is None else torch.from_numpy(self.condition[rows]).to(device)

    def content(self, rows: NDArray[np.intp]) -> str:
        """As ``TrainingData.content``."""
        found = hashlib.sha256(repr((len(rows), self.images.shape[1:])).encode())
        for start in range(0, len(rows), 1024):
            part = rows[start : start + 1024]
            for array in (self.images, self.brain, self.condition, self.calm):
                if array is not None:
                    found.update(np.ascontiguousarray(array[part]).tobytes())
            if self.slabs is not None:  # where neighbours lie, whatever else is in the store
                found.update((self.slabs.rows[part] - part[:, None, None]).tobytes())
                found.update(self.slabs.share[part].tobytes())
        return found.hexdigest()


def role_slices(
    store: SliceStore, role: str, options: TrainConfig, *, slabs: bool = False
) -> SliceData:
    """Slices for the model of ``role``, or slabs, as ``options.data`` says; memory-mapped."""
    wanted = {"own": role, "pooled": None}.get(options.data, options.data)
    train, val = store.select(wanted, "train"), store.select(wanted, "val")
    neighbours = Slabs.of_index(store.index) if slabs else None
    return SliceData(store.images, store.brain, train, val, neighbours)


def with_reconstructions(store: SliceStore, healthy: Model, compute: Compute) -> SliceData:
    """Mixed slices, and the healthy model's reconstructions of those for training; in memory.

    Validation slices stay as they are.
    """
    train, val = store.select("mixed", "train"), store.select("mixed", "val")
    again = _reconstructed(store, train, healthy, compute)
    images = np.concatenate([store.images[train], again, store.images[val]])
    brain = np.concatenate([store.brain[train], store.brain[train], store.brain[val]])
    first_val = 2 * len(train)
    return SliceData(images, brain, np.arange(first_val), np.arange(first_val, len(images)))


def conditioned_slices(store: SliceStore, labelled_patients: int, seed: int) -> SliceData:
    """Slices of both roles, each with its role's number as condition.

    With ``labelled_patients`` > 0 the tumour masks of so many training subjects of the mixed source
    are used, and of no other: their tumour-free slices get the healthy condition.
    """
    condition = (store.index["role"] == "mixed").to_numpy().astype(np.int64) * ROLES.index("mixed")
    if labelled_patients:
        condition[_labelled_tumour_free(store, labelled_patients, seed)] = ROLES.index("healthy")
    train, val = store.select(split="train"), store.select(split="val")
    return SliceData(store.images, store.brain, train, val, condition=condition)


def _labelled_tumour_free(store: SliceStore, count: int, seed: int) -> NDArray[np.int64]:
    """Rows without tumour of ``count`` mixed training subjects that have a mask."""
    known = store.index[store.index["tumour_px"].notna()]
    known = known[(known["role"] == "mixed") & (known["split"] == "train")]
    people = known["source"] + "\t" + known["subject"]
    having = sorted(set(people))
    if count > len(having):
        raise ConfigError(
            f"options.labelled_patients: expected at most {len(having)} (training subjects of the "
            f"mixed source with a tumour mask), found {count}"
        )
    chosen = np.random.default_rng(seed).choice(having, count, replace=False)
    rows = known.index[people.isin(chosen) & (known["tumour_px"] == 0)]
    return rows.to_numpy(np.int64)


def _reconstructed(
    store: SliceStore, rows: NDArray[np.int64], healthy: Model, compute: Compute
) -> NDArray[np.uint16]:
    """The healthy model's reconstructions of ``rows``, stored as slices are; (n, H, W)."""
    data = SliceData(
        store.images, store.brain, rows, rows, Slabs.of_index(store.index) if healthy.slab else None
    )
    parts = [np.empty((0, *store.images.shape[1:]), np.uint16)]
    network = compute.network(healthy.to(compute.device).eval())
    for start in range(0, len(rows), _BATCH):
        x = data.batch(rows[start : start + _BATCH], compute.device)
        with torch.inference_mode():
            x_h = network.reconstruct(x)
        parts.append(np.rint(x_h.squeeze(1).cpu().numpy() * FULL_SCALE).astype(np.uint16))
    return np.concatenate(parts)


def augment(
    clean: Tensor, mask: Tensor | None, options: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (input, target, mask) for slices or slabs ``clean`` (batch, K, H, W) in [0, 1].

    Flips, turns and stretches change all three; brightness, colours, gamma and bias input and
    target; noise is added to the input alone, so that the model learns to remove it (the paper's
    denoising). The target stays in [0, 1], and black where it was.
    """
    n, device = len(clean), clean.device
    draw = torch.rand((2, n, 1, 1, 1), generator=generator, device=device)
    flipped = draw[0] < options.flip
    target = torch.where(flipped, clean.flip(-1), clean)
    if mask is not None:
        mask = torch.where(flipped, mask.flip(-1), mask)
    if options.turn_deg or options.stretch:
        target, mask = _moved(target, mask, options, generator)
    if options.brightness:
        target = (target * (1 + options.brightness * (2 * draw[1] - 1))).clamp(0, 1)
    if options.recolour:
        target = _recoloured(target, options.recolour, generator)
    if options.gamma or options.bias:
        target = _toned(target, options, generator)
    if not options.noise:
        return target, target, mask
    noise = torch.randn(target.shape, generator=generator, device=device)
    return target + options.noise * noise, target, mask


def _moved(
    images: Tensor, mask: Tensor | None, options: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Turned and stretched about the centre; what comes from beyond the border is black."""
    n, device = len(images), images.device
    draw = 2 * torch.rand((3, n), generator=generator, device=device) - 1
    angle = draw[0] * (torch.pi / 180 * options.turn_deg)
    x, y = 1 + options.stretch * draw[1], 1 + options.stretch * draw[2]
    zero = torch.zeros_like(angle)
    rows = [torch.stack([angle.cos() * x, -angle.sin() * y, zero], 1),
            torch.stack([angle.sin() * x, angle.cos() * y, zero], 1)]  # fmt: skip
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    if mask is not None:
        mask = functional.grid_sample(mask.float(), grid, mode="nearest", align_corners=False) > 0
    # Interpolation leaves a thin dark seam around the brain; the mask of nearest pixels cuts it.
    inside = functional.grid_sample((images > 0).float(), grid, align_corners=False) >= 0.5
    return moved * inside, mask


def _recoloured(images: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    """Through a piecewise linear curve each, with ``chance``; black stays black."""
    n, device = len(images), images.device
    knots = torch.rand((n, _CURVE_KNOTS), generator=generator, device=device)
    place = images.clamp(0, 1) * (_CURVE_KNOTS - 1)
    low = place.floor().clamp(max=_CURVE_KNOTS - 2).long()
    flat = low.flatten(1)
    first, second = (knots.gather(1, flat + k).view_as(images) for k in (0, 1))
    curved = (first + (place - low) * (second - first)) * (images > 0)
    chosen = torch.rand((n, 1, 1, 1), generator=generator, device=device) < chance
    return torch.where(chosen, curved, images)


def _toned(images: Tensor, options: AugmentConfig, generator: torch.Generator) -> Tensor:
    """With another gamma and under another bias field, in [0, 1]."""
    n, device = len(images), images.device
    power = options.gamma * (2 * torch.rand((n, 1, 1, 1), generator=generator, device=device) - 1)
    knots = torch.randn((n, 1, _BIAS_CELLS, _BIAS_CELLS), generator=generator, device=device)
    size = list(images.shape[-2:])
    field = functional.interpolate(knots, size, mode="bicubic", align_corners=True)
    return (images ** power.exp() * (1 + options.bias * field).clamp(min=0.1)).clamp(0, 1)
