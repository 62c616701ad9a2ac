"""What all closed-form scores add to the encoder and decoder passes that they need.

    python benchmarks/scoring_cost.py [--slices 5000] [--preset demo] [--threads 2] [--repeats 5]

The two networks of a preset (untrained: the cost is the same) score random slices; the narrower
they are, the more the scores weigh. The passes are one encoder and decoder pass of VAE-H, which
gives x_h, and one encoder pass of VAE for x and for x_h. Closed form means: a function of x, x_h
and the three posteriors, no further pass. Scores of further kinds are timed one group each, for the
record; they have no bound.

Plain loop: x, x_h, both encodings and their distance, as one writes it by hand, beside
``score_slices`` with the paper's score: the table with its key columns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import twinvae  # noqa: F401  first, since it tells OpenMP not to spin

# isort: split
import numpy as np
import pandas as pd
import torch
from measuring import Row, peak_gib, ratios, row, write_part
from numpy.typing import NDArray

from twinvae.config import ComputeConfig, ScoringConfig, load_config
from twinvae.models import build_model
from twinvae.scoring import (
    SCORES,
    Models,
    Score,
    SliceBatch,
    score_batch,
    score_slices,
    select_scores,
)
from twinvae.scoring.latent import LATENT_DIFFERENCE
from twinvae.scoring.trivial import HEALTHY_PIXELS
from twinvae.training import Compute

BOUND = 1.3
NOT_CLOSED = ("symmetric", "latent_gradient")  # further passes
FURTHER = {
    "symmetric (further passes)": ("_symmetric",),
    "features": ("features_",),
    "ELBO and likelihood": ("healthy_elbo", "image_nll"),
    "gradients": ("gradient_", "latent_gradient"),
    "trivial rivals": ("trivial_",),
}


def closed_form() -> list[Score]:
    """Scores of x, x_h and the posteriors alone."""
    kinds = ("latent_", "image_l", "residual", "healthy_kl", "healthy_mean")
    return [
        entry
        for name, entry in SCORES.items()
        if name.startswith(kinds) and not any(part in name for part in NOT_CLOSED)
    ]


def models_of(preset: str) -> Models:
    networks = load_config(preset).models
    return Models(build_model(networks.healthy, 0).eval(), build_model(networks.mixed, 1).eval())


def make_batches(slices: int, size: int, models: Models) -> Callable[[], Iterator[SliceBatch]]:
    """Fresh batches of the same slices at every call, one at a time as when scoring."""
    generator = torch.Generator().manual_seed(0)
    side = models.healthy.config.image_size
    x = torch.rand(slices, 1, side, side, generator=generator)
    axis = torch.linspace(-1.4, 1.4, side)
    brain = (axis[:, None].square() + axis.square() < 1).expand_as(x)
    latent = models.mixed.config.latent_size
    learned = {
        LATENT_DIFFERENCE.name: {"mean": torch.zeros(latent), "spread": torch.ones(latent),
                                 "whiten": torch.eye(latent)},
        HEALTHY_PIXELS.name: {"mean": torch.full((21, side, side), 0.5),
                              "deviation": torch.ones(21, side, side)},
    }  # fmt: skip

    def make() -> Iterator[SliceBatch]:
        for at in range(0, slices, size):
            yield SliceBatch(
                x[at : at + size],
                brain[at : at + size],
                position=torch.full((len(x[at : at + size]),), 0.5),
                brain_mm2=torch.full((len(x[at : at + size]),), 1e4),
                pixel_mm=torch.full((len(x[at : at + size]),), 3.0),
                models=models,
                options=ScoringConfig(),
                fitted=learned,
            )

    return make


def passes(batch: SliceBatch) -> None:
    """The passes the closed-form scores need, and nothing else."""
    healthy = batch.models.healthy
    with torch.no_grad():
        x_h = torch.sigmoid(healthy.decode(healthy.encode(batch.x).mean)[0])
        batch.models.mixed.encode(batch.x)
        batch.models.mixed.encode(x_h)


def seconds(
    make: Callable[[], Iterator[SliceBatch]], work: Callable[[SliceBatch], object]
) -> float:
    started = time.process_time()
    for batch in make():
        work(batch)
    return time.process_time() - started


def scoring(scores: Sequence[Score], compute: Compute) -> Callable[[SliceBatch], object]:
    return lambda batch: score_batch(batch, scores, compute)


@dataclass(frozen=True)
class InMemory:
    """Slices as ``score_slices`` takes them."""

    images: NDArray[np.uint16]
    brain: NDArray[np.uint8]
    index: pd.DataFrame
    mirror: None = None


def stored(count: int, side: int) -> InMemory:
    """Random slices, twenty a scan."""
    rows = np.arange(count)
    images = np.random.default_rng(0).integers(0, 65535, (count, side, side)).astype(np.uint16)
    index = pd.DataFrame(
        {"subject": [f"s{number // 20}" for number in rows], "session": "", "source": "s",
         "role": "mixed", "split": "test", "slice": rows % 20, "position": (rows % 20) / 20,
         "brain_px": 9000, "tumour_px": 0, "spacing_mm": 1.0, "pixel_mm": 3.0}
    )  # fmt: skip
    return InMemory(images, np.ones(images.shape, np.uint8), index)


def plain_loop(slices: InMemory, models: Models, size: int) -> NDArray[np.float32]:
    """The paper's score by hand."""
    found = []
    with torch.inference_mode():
        for at in range(0, len(slices.images), size):
            x = torch.from_numpy(slices.images[at : at + size].astype(np.float32) / 65535)[:, None]
            x_h = torch.sigmoid(models.healthy.decode(models.healthy.encode(x).mean)[0])
            apart = models.mixed.encode(x).mean - models.mixed.encode(x_h).mean
            found.append(apart.norm(dim=1).numpy())
    return np.concatenate(found)


def against_plain_loop(
    preset: str, models: Models, compute: Compute, count: int, repeats: int
) -> Row:
    """``score_slices`` with the paper's score beside the loop."""
    slices = stored(count, models.healthy.config.image_size)
    options = ScoringConfig(scores=("latent_l2",))
    scores = [s for s in select_scores(options.scores, models) if s.name == "latent_l2"]
    rows = np.arange(count)
    ours, theirs = [], []
    for turn in range(-1, repeats):  # the first warms up
        started = time.process_time()
        by_hand = plain_loop(slices, models, options.batch_size)
        between = time.process_time()
        table = score_slices(slices, rows, models, scores, options, compute)
        ended = time.process_time()
        if turn < 0:
            np.testing.assert_allclose(table["latent_l2"], by_hand, rtol=1e-3)
        else:
            ours.append(ended - between)
            theirs.append(between - started)
    return row(
        f"score, {preset}'s networks, the paper's score", "plain loop, the same score",
        ratios(ours, theirs), note=f"{count:,} slices, {statistics.median(ours):.2f} s",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=5000)
    parser.add_argument("--preset", default="demo", help="whose networks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--further", action="store_true", help="also time the other kinds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    compute = Compute.resolve(ComputeConfig(threads=options.threads))
    models = models_of(options.preset)
    make = make_batches(options.slices, ScoringConfig().batch_size, models)
    scores = closed_form()
    seconds(make, passes)  # warm up
    # Processor time in pairs, one after the other, and the median of their ratios: other processes
    # disturb both of a pair alike.
    pairs = [
        (seconds(make, passes), seconds(make, scoring(scores, compute)))
        for _ in range(options.repeats)
    ]
    need, all_of_it = (statistics.median(column) for column in zip(*pairs, strict=True))
    found = sorted(both / alone for alone, both in pairs)
    print(
        f"{options.preset}: {options.slices} slices, {len(scores)} closed-form scores, "
        f"{options.threads} thread(s), {options.repeats} pairs"
    )
    print(f"passes alone       {need:8.2f} s of processor time (median)")
    print(f"passes and scores  {all_of_it:8.2f} s")
    print(
        f"ratio              {statistics.median(found):8.3f}   "
        f"({found[0]:.3f} to {found[-1]:.3f}; bound {BOUND})"
    )
    what = f"score, {options.preset}'s networks, {len(scores)} closed-form scores"
    rows = [
        row(what, "the network passes that they need", found, most=BOUND),
        against_plain_loop(options.preset, models, compute, options.slices, options.repeats),
        row(f"score, {options.preset}'s networks: memory", "", [peak_gib()], "GiB"),
    ]
    write_part(options.out, rows)
    if options.further:
        able = [s for s in SCORES.values() if s.applies(models)]
        for title, parts in FURTHER.items():
            group = [s for s in able if any(part in s.name for part in parts)]
            spent = seconds(make, scoring(group, compute))
            print(f"{title:28} {len(group):3} scores {spent / need:6.2f} × the passes")


if __name__ == "__main__":
    main()
