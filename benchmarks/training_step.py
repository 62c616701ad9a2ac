"""What a training step costs beside the same network in a bare loop, and beside its layers alone.

    python benchmarks/training_step.py [--rounds 12] [--threads 1] [--out FILE.json]

The paper's two networks and preset best's healthy one, at their own batch sizes, on random slices.
The contestants take turns in one process, round by round, so that each ratio is of neighbours in
time; seconds are of the processor (all threads), so that other programs on the machine hardly
matter. On a GPU they are of the wall clock.

- step: an epoch of ``twinvae.training``, slices read from an array on disk, validation left out;
- bare: the shortest loop around the same loss, slices in memory, the same augmentation by hand;
- layers: every convolution and dense layer on inputs of its own shape, forward and backward: the
  ceiling that the convolution library sets. What lies between them (activations, likelihood,
  optimiser, augmentation) is not in it.

Shares of peak are of the FLOP of convolutions and products against those of a large matrix product
measured in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import twinvae  # noqa: F401  first, since it tells OpenMP not to spin

# isort: split
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from twinvae.config import ComputeConfig, ModelConfig, TrainConfig, load_config
from twinvae.models import Model, TrainingBatch, build_model
from twinvae.progress import progress_bar
from twinvae.training import Compute, SliceData
from twinvae.training.fit import _optimisers, _Training

STEPS = 4  # an epoch's, each round
PRODUCT = 2048  # side of the matrices
NETWORKS = {
    "paper, healthy": ("paper", "healthy"),
    "paper, mixed": ("paper", "mixed"),
    "best, healthy": ("best", "healthy"),
}
Work = Callable[[], None]


def slices_on_disk(folder: Path, count: int, size: int) -> SliceData:
    """Discs of random noise, as a slice store holds slices."""
    path, draw = folder / f"images-{size}.npy", np.random.default_rng(0)
    axis = np.linspace(-1.3, 1.3, size)
    brain = np.broadcast_to(axis[:, None] ** 2 + axis**2 < 1, (count, size, size))
    np.save(path, (draw.integers(8000, 40000, brain.shape) * brain).astype(np.uint16))
    rows = np.arange(count)
    return SliceData(np.load(path, mmap_mode="r"), brain.astype(np.uint8), rows, rows[:0])


def one_epoch(model: Model, data: SliceData, options: TrainConfig, compute: Compute) -> Work:
    """As ``fit`` does it, without validation, checkpoint and log."""
    training = _Training(model, _optimisers(model, options), data, options, compute, seed=0)

    def epoch() -> None:
        with progress_bar("", STEPS, hidden=True) as bar:
            training.epoch(0, bar)

    return epoch


def bare_loop(model: Model, images: torch.Tensor, options: TrainConfig) -> Work:
    """As short as a training loop can be, with what the objective needs."""
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    size, augment = options.batch_size, options.augment

    def epoch() -> None:
        order = torch.randperm(len(images))
        for start in range(0, len(images), size):
            target = images[order[start : start + size]]
            flipped = torch.rand(len(target), 1, 1, 1, device=target.device) < augment.flip
            target = torch.where(flipped, target.flip(-1), target)
            light = 1 + augment.brightness * (2 * torch.rand_like(target[:, :, :1, :1]) - 1)
            target = (target * light).clamp(0, 1)
            x = target + augment.noise * torch.randn_like(target)
            batch = TrainingBatch(x, target, None)
            loss = model.loss(batch, samples=options.posterior_samples)
            optimiser.zero_grad()
            loss.objective.backward()
            nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
            optimiser.step()
            loss.objective.item()

    return epoch


def layers_alone(model: Model, batch: TrainingBatch, samples: int) -> Work:
    """Every convolution and dense layer by itself, on inputs as ``model``'s loss gives it."""
    layers = [
        m for m in model.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    seen: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []

    def record(layer: nn.Module, given: tuple[torch.Tensor], found: torch.Tensor) -> None:
        x = torch.randn_like(given[0]).requires_grad_(given[0].requires_grad)
        seen.append((layer, x, torch.randn_like(found)))

    hooks = [layer.register_forward_hook(record) for layer in layers]
    model.loss(batch, samples=samples)
    for hook in hooks:
        hook.remove()

    def once() -> None:
        for layer, x, gradient in seen:
            layer.zero_grad(set_to_none=True)
            x.grad = None
            layer(x).backward(gradient)

    return once


def flop_of(model: Model, batch: TrainingBatch, samples: int) -> int:
    """Of one step's convolutions and products, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        model.loss(batch, samples=samples).objective.backward()
    return counter.get_total_flops()


def product(device: torch.device) -> Work:
    """A large matrix product."""
    a, b = (torch.randn(PRODUCT, PRODUCT, device=device) for _ in range(2))
    return lambda: torch.mm(a, b).sum().item() and None


def seconds(work: Work, device: torch.device) -> float:
    """Of the processor, or of the clock on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - started
    started = time.process_time()
    work()
    return time.process_time() - started


def one_network(
    name: str,
    config: ModelConfig,
    options: TrainConfig,
    compute: Compute,
    folder: Path,
    rounds: int,
) -> dict[str, object]:
    """A row of the table."""
    data = slices_on_disk(folder, STEPS * options.batch_size, config.image_size)
    images = data.batch(data.train, compute.device)
    networks = [build_model(config, 0).to(compute.device).train() for _ in range(4)]
    some = TrainingBatch(images[: options.batch_size], images[: options.batch_size], None)
    flop = flop_of(networks[3], some, options.posterior_samples)
    works: dict[str, tuple[Work, int]] = {
        "step": (one_epoch(networks[0], data, options, compute), STEPS),
        "bare": (bare_loop(networks[1], images, options), STEPS),
        "layers": (layers_alone(networks[2], some, options.posterior_samples), 1),
        "product": (product(compute.device), 1),
    }
    found: dict[str, list[float]] = {key: [] for key in works}
    with progress_bar(name, rounds) as bar:
        for number in range(-1, rounds):  # the first round warms up
            for key, (work, steps) in works.items():
                spent = seconds(work, compute.device) / steps
                if number >= 0:
                    found[key].append(spent)
            bar.advance(number >= 0)
    peak = [2 * PRODUCT**3 / spent for spent in found["product"]]
    return {
        "network": name,
        "ms": {key: 1e3 * statistics.median(found[key]) for key in works},
        "of_bare": _ratio(found["step"], found["bare"]),
        "of_layers": _ratio(found["layers"], found["step"]),
        "of_peak": _ratio([flop / p for p in peak], found["step"]),
        "gflop": flop / 1e9,
    }


def _ratio(first: list[float], second: list[float]) -> list[float]:
    """Quartiles of the ratio, round by round: lower, median, upper."""
    return [float(q) for q in np.quantile(np.divide(first, second), (0.5, 0.25, 0.75))]


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    compute = Compute.resolve(ComputeConfig(device=given.device, threads=given.threads))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (preset, role) in NETWORKS.items():
            run = load_config(preset)
            config, options = getattr(run.models, role), getattr(run.training, role)
            rows.append(one_network(name, config, options, compute, Path(folder), given.rounds))
            print(json.dumps(rows[-1]), flush=True)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
