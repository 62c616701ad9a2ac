"""A dissimilarity learned from planted lesions: how much each healthy counterpart's word counts.

``residual_or_window`` and its like give x_h and the mirror image fixed weights, the same everywhere
in the brain. Here a network of one hidden layer learns, pixel by pixel, from lesions planted in
healthy training slices (``scoring.planted``), how much each counts given the others and given what
is usual of it there: ventricles, the brain's base and its top leave residuals in health too.
No scan with a tumour is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from twinvae.config.contrast import AUTO
from twinvae.imaging.slabs import SLAB
from twinvae.planting import Planting, plant_in_slices
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.image import mirror_excess, smoothed_residual
from twinvae.scoring.registry import MAPS, Reference, abnormality_map, score
from twinvae.scoring.trivial import window_excess

_PLACES, _CELLS = 11, 16  # what is usual is kept at so many positions, in so many cells a side
_HIDDEN = 12
_PIXELS = 160  # looked at in each slice: of the lesion, as many beside it, half as many without it
_STEPS, _PIXELS_A_STEP, _RATE, _DECAY = 600, 4096, 0.02, 1e-4
_LEAST = 0.03  # change of intensity that counts as lesion
_NEIGHBOUR_MM = 4.2  # between the slices of a slab: 3 % of a brain's height
_UNIT = 0.1  # smoothed differences of intensity are of this order


def counterparts(batch: SliceBatch) -> Tensor:
    """What is held against x, smoothed, and x itself, (n, channels, H, W), each of order 1.

    Too bright and too dark apart: against x_h; against the mirror image, by local means and pixel
    by pixel; then, of models that look for lesions, their probability.
    """
    excesses = (smoothed_residual, window_excess, mirror_excess)
    channels = [excess(batch, sign) for excess in excesses for sign in (1.0, -1.0)]
    if batch.models.healthy.finds_lesions:
        channels.append(batch.smooth(batch.lesion * batch.inside))
    channels.append(batch.smooth(batch.x * batch.inside))
    return torch.cat(channels, dim=1) / _UNIT


def learn_weights(batches: Iterable[SliceBatch]) -> dict[str, NDArray[np.float64]]:
    """``usual`` (places, channels, cells, cells): mean of ``counterparts`` in health; and weights.

    ``hidden`` (12, 2 · channels), ``hidden_bias``, ``out`` (1, 12), ``out_bias`` of the network.
    """
    generator = torch.Generator().manual_seed(0)
    sums: list[tuple[Tensor, Tensor]] = []
    pixels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for batch in batches:
        with torch.no_grad():
            ill, lesion = _with_lesions(batch, generator)
            healthy, found = counterparts(batch).cpu(), counterparts(ill).cpu()
        places, core = _places(batch).cpu(), batch.core.cpu()
        sums.append(_by_place(healthy, places))
        pixels += _drawn(found, core & lesion, places, 1.0, _PIXELS, generator)
        pixels += _drawn(found, core & ~lesion, places, 0.0, _PIXELS, generator)
        pixels += _drawn(healthy, core, places, 0.0, _PIXELS // 2, generator)
    total, slices = (torch.stack(part).sum(0) for part in zip(*sums, strict=True))
    usual = total / slices.clamp(min=1).view(-1, 1, 1, 1)
    values, truth, cells, places = (torch.cat(part) for part in zip(*pixels, strict=True))
    given = torch.cat([values, usual[places, :, cells[:, 0], cells[:, 1]]], dim=1)
    network = _fitted(given, truth, generator)
    names = ("hidden", "hidden_bias", "out", "out_bias")
    weights = {
        name: value.detach().double().numpy()
        for name, value in zip(names, network.parameters(), strict=True)
    }
    return {"usual": usual.double().numpy(), **weights}


PLANTED_LESIONS = Reference("planted_lesions", learn_weights)


@abnormality_map(
    "learned",
    "−log P(no lesion), learned from planted lesions and what x_h and the mirror image say",
    "this project",
    whole=None,
    local=False,
)
def learned(batch: SliceBatch) -> Tensor:
    """−log P(no lesion | counterparts, what is usual of them here) in nats, (n, 1, H, W)."""

    def compute(inner: SliceBatch) -> Tensor:
        fitted = inner.fitted[PLANTED_LESIONS.name]
        found = counterparts(inner)
        size = (found.shape[-2], found.shape[-1])
        usual = functional.interpolate(fitted["usual"][_places(inner)], size, mode="nearest")
        given = torch.cat([found, usual], dim=1).movedim(1, -1)
        hidden = functional.softplus(given @ fitted["hidden"].T + fitted["hidden_bias"])
        logit = (hidden @ fitted["out"].T + fitted["out_bias"]).movedim(-1, 1)
        return functional.softplus(logit) * inner.core

    return batch.once("learned", compute)


@score(
    "learned_local",
    "maximum over the brain of −log P(no lesion), learned from planted lesions",
    "this project",
    fit=PLANTED_LESIONS,
)
def learned_local(batch: SliceBatch) -> Tensor:
    """Max over the brain of the map ``learned``."""
    return batch.brain_max(learned(batch))


def _register_agreement(suffix: str) -> None:
    """Where the learned weights and the fixed ones agree, of what is too bright or too dark."""
    name, fixed = f"learned_agreed{suffix}", f"residual_or_window{suffix}"
    summary = f"√(learned · {fixed}): where learned and fixed weights agree"

    @abnormality_map(name, summary, "this project", whole=None, local=False)
    def agreed(batch: SliceBatch) -> Tensor:
        """√(learned · fixed), (n, 1, H, W): each has false alarms of its own."""
        return (learned(batch) * MAPS[fixed].of(batch)).clamp(min=0).sqrt()

    @score(
        f"{name}_local", f"maximum over the brain of {summary}", "this project", fit=PLANTED_LESIONS
    )
    def highest(batch: SliceBatch) -> Tensor:
        """Max over the brain."""
        return batch.brain_max(agreed(batch))


_register_agreement("")
_register_agreement("_negative")


def _by_place(channels: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the channels in cells (places, channels, cells, cells), and slices (places,)."""
    own = functional.one_hot(places, _PLACES).float()
    coarse = functional.adaptive_avg_pool2d(channels, _CELLS)
    return torch.einsum("np,nchw->pchw", own, coarse), own.sum(0)


def _places(batch: SliceBatch) -> Tensor:
    return (batch.position.clamp(0, 1) * (_PLACES - 1)).round().long()


def _with_lesions(batch: SliceBatch, generator: torch.Generator) -> tuple[SliceBatch, Tensor]:
    """The slices, or slabs, with a lesion each, and where it can be seen, bool on the CPU.

    The mirror image stays that of the healthy slice: what it holds lies on the other side.
    """
    slab = batch.slab.cpu()
    step = _NEIGHBOUR_MM
    planted = batch.options.planted  # a run says which; options of their own may not
    ill, masks = plant_in_slices(
        slab,
        slab > 0,
        generator,
        pixel_mm=batch.pixel_mm.cpu(),
        heights_mm=(-step, 0.0, step) if slab.shape[1] == SLAB else (0.0,),
        options=Planting(
            contrast="any" if planted == AUTO else planted,
            diameter_mm=(8.0, 70.0),
            strength=(0.15, 1.2),
            push=0.2,
            grain=1.0,
            infiltrating=0.5,
        ),
    )
    middle = slab.shape[1] // 2
    seen = masks & ((ill - slab).abs() > _LEAST)
    return batch.showing(ill.to(batch.x.device)), seen[:, middle, None]


def _drawn(
    channels: Tensor, among: Tensor, places: Tensor, truth: float, count: int, draw: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Of each slice that has any, ``count`` pixels of ``among``: values, truth, cell, place."""
    for values, mask, place in zip(channels, among[:, 0], places, strict=True):
        at = mask.nonzero()
        if len(at):
            at = at[torch.randint(len(at), (count,), generator=draw)]
            cells = at * _CELLS // mask.shape[-1]
            found = values[:, at[:, 0], at[:, 1]].T
            yield found, torch.full((count,), truth), cells, place.expand(count)


@torch.enable_grad()
def _fitted(given: Tensor, truth: Tensor, generator: torch.Generator) -> nn.Sequential:
    """P(lesion) of a pixel from ``given`` (pixels, inputs), as logit."""
    first, last = nn.Linear(given.shape[1], _HIDDEN), nn.Linear(_HIDDEN, 1)
    for layer in (first, last):
        nn.init.normal_(layer.weight, std=0.3 * given.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    network = nn.Sequential(first, nn.Softplus(), last)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    for step in range(_STEPS):
        optimiser.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
        chosen = torch.randint(len(given), (_PIXELS_A_STEP,), generator=generator)
        logit = network(given[chosen])[:, 0]
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(logit, truth[chosen]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network
