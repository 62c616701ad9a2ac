"""What all closed-form scores add to the encoder and decoder passes that they need.

    python benchmarks/scoring_cost.py [--slices 512] [--threads 1] [--repeats 3]

The paper's two networks (untrained: the cost is the same) score random slices. The passes are one
encoder and decoder pass of VAE-H, which gives x_h, and one encoder pass of VAE for x and for x_h.
Closed form means: a function of x, x_h and the three posteriors, no sort, no search, no further
pass. Scores of further kinds are timed one group each, for the record; they have no bound.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch

from twinvae.config import ComputeConfig, ScoringConfig, load_config
from twinvae.models import build_model
from twinvae.scoring import SCORES, Models, Score, SliceBatch, score_batch
from twinvae.scoring.mahalanobis import LATENT_DIFFERENCE
from twinvae.training import Compute

BOUND = 1.3
NOT_CLOSED = ("symmetric", "blurred", "region", "_top")  # further passes, searches, sorts
FURTHER = {
    "variants (further passes)": ("_symmetric", "_blurred"),
    "features": ("features_",),
    "ELBO and likelihood": ("healthy_elbo", "image_nll"),
    "gradients": ("gradient_", "latent_gradient"),
    "regions and top shares": ("_region", "_top"),
}


def closed_form() -> list[Score]:
    """Scores of x, x_h and the posteriors alone."""
    kinds = ("latent_", "image_l", "residual", "healthy_kl", "healthy_mean")
    return [
        entry
        for name, entry in SCORES.items()
        if name.startswith(kinds)
        and not name.startswith("latent_gradient")
        and not any(part in name for part in NOT_CLOSED)
    ]


def paper_models() -> Models:
    networks = load_config("paper").models
    return Models(build_model(networks.healthy, 0).eval(), build_model(networks.mixed, 1).eval())


def make_batches(slices: int, size: int, models: Models) -> Callable[[], list[SliceBatch]]:
    """Fresh batches of the same slices at every call."""
    generator = torch.Generator().manual_seed(0)
    side = models.healthy.config.image_size
    x = torch.rand(slices, 1, side, side, generator=generator)
    axis = torch.linspace(-1.4, 1.4, side)
    brain = (axis[:, None].square() + axis.square() < 1).expand_as(x)
    latent = models.mixed.config.latent_size
    learned = {"mean": torch.zeros(latent), "spread": torch.ones(latent),
               "whiten": torch.eye(latent)}  # fmt: skip

    def make() -> list[SliceBatch]:
        return [
            SliceBatch(
                x[at : at + size],
                brain[at : at + size],
                position=torch.full((len(x[at : at + size]),), 0.5),
                brain_mm2=torch.full((len(x[at : at + size]),), 1e4),
                pixel_mm=torch.full((len(x[at : at + size]),), 3.0),
                models=models,
                options=ScoringConfig(),
                fitted={LATENT_DIFFERENCE.name: learned},
            )
            for at in range(0, slices, size)
        ]

    return make


def passes(batch: SliceBatch) -> None:
    """The passes the closed-form scores need, and nothing else."""
    healthy = batch.models.healthy
    with torch.no_grad():
        x_h = torch.sigmoid(healthy.decode(healthy.encode(batch.x).mean)[0])
        batch.models.mixed.encode(batch.x)
        batch.models.mixed.encode(x_h)


def seconds(make: Callable[[], list[SliceBatch]], work: Callable[[SliceBatch], object]) -> float:
    batches = make()
    started = time.process_time()
    for batch in batches:
        work(batch)
    return time.process_time() - started


def scoring(scores: Sequence[Score], compute: Compute) -> Callable[[SliceBatch], object]:
    return lambda batch: score_batch(batch, scores, compute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=512, help="5,000 for the bound's own size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--further", action="store_true", help="also time the other kinds")
    options = parser.parse_args()
    compute = Compute.resolve(ComputeConfig(threads=options.threads))
    make = make_batches(options.slices, ScoringConfig().batch_size, paper_models())
    scores = closed_form()
    seconds(make, passes)  # warm up
    # Processor time, alternating, and the least of each: other processes disturb it least.
    pairs = [
        (seconds(make, passes), seconds(make, scoring(scores, compute)))
        for _ in range(options.repeats)
    ]
    need, all_of_it = (min(column) for column in zip(*pairs, strict=True))
    print(f"{options.slices} slices, {len(scores)} closed-form scores, {options.threads} thread(s)")
    print(f"passes alone       {need:8.2f} s")
    print(f"passes and scores  {all_of_it:8.2f} s")
    print(f"ratio              {all_of_it / need:8.3f}   (bound {BOUND})")
    if options.further:
        able = [s for s in SCORES.values() if s.applies(make()[0].models)]
        for title, parts in FURTHER.items():
            group = [s for s in able if any(part in s.name for part in parts)]
            spent = seconds(make, scoring(group, compute))
            print(f"{title:28} {len(group):3} scores {spent / need:6.2f} × the passes")


if __name__ == "__main__":
    main()
