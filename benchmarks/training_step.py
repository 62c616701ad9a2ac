"""What a training step costs beside the same network in a bare loop, and beside its layers alone.

    python benchmarks/training_step.py [--rounds 12] [--threads 1] [--only NETWORK] [--out FILE]
    python benchmarks/training_step.py --compile [--rounds 12] [--threads 1] [--only NETWORK]

The paper's two networks and preset best's healthy one, at their own batch sizes, on random slices;
`slab, healthy`, that of configs/slab.yaml, only when it is asked for.
The contestants take turns in one process, round by round, so that each ratio is of neighbours in
time; seconds are of the processor (all threads), so that other programs on the machine hardly
matter. On a GPU they are of the wall clock.

- step: an epoch of ``twinvae.training``, slices read from an array on disk, validation left out;
- bare: the shortest loop around the same loss, slices in memory, the same augmentation by hand;
- layers: every convolution and dense layer on inputs of its own shape, forward and backward: the
  ceiling that the convolution library sets. What lies between them (activations, likelihood,
  optimiser, augmentation) is not in it;
- Lightning, pythae: their trainers around the bare loop's loss (``trainers.py``), where they are
  installed: ``make bench`` gives them an environment of their own;
- compiled: with ``--compile``, and then beside step alone, the same epoch whose network's passes
  torch.compile made (``compute.compile``). It needs a C++ compiler. What it takes to compile is
  told apart.

Shares of peak are of the FLOP of convolutions and products against those of a large matrix product
measured in the same rounds. Freed memory is kept for all contestants alike, since they share a
process (``parallel.memory``; what it saves: ``freed_memory.py``).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import twinvae  # noqa: F401  first, since it tells OpenMP not to spin

# isort: split
import torch
import trainers
from measuring import Row, peak_gib, ratios, row, short, write_part
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from trainers import able, taking_turns

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
SLAB = "slab, healthy"
SLAB_CONFIG = Path(__file__).parents[1] / "configs" / "slab.yaml"
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


def objective_by_hand(model: Model, options: TrainConfig) -> Callable[[torch.Tensor], torch.Tensor]:
    """The augmentation of the paper and the model's loss, as a bare loop has them."""
    augment = options.augment

    def objective(target: torch.Tensor) -> torch.Tensor:
        flipped = torch.rand(len(target), 1, 1, 1, device=target.device) < augment.flip
        target = torch.where(flipped, target.flip(-1), target)
        light = 1 + augment.brightness * (2 * torch.rand_like(target[:, :, :1, :1]) - 1)
        target = (target * light).clamp(0, 1)
        x = target + augment.noise * torch.randn_like(target)
        return model.loss(
            TrainingBatch(x, target, None), samples=options.posterior_samples
        ).objective

    return objective


def bare_loop(model: Model, images: torch.Tensor, options: TrainConfig) -> Work:
    """As short as a training loop can be, with what the objective needs."""
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    objective, size = objective_by_hand(model, options), options.batch_size

    def epoch() -> None:
        order = torch.randperm(len(images))
        for start in range(0, len(images), size):
            loss = objective(images[order[start : start + size]])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
            optimiser.step()
            loss.item()

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


@dataclass(frozen=True)
class Case:
    """One network, how it is trained, and where and how often that is measured."""

    name: str
    config: ModelConfig
    options: TrainConfig
    compute: Compute
    folder: Path
    rounds: int

    def data(self) -> SliceData:
        """What an epoch trains on."""
        return slices_on_disk(self.folder, STEPS * self.options.batch_size, self.config.image_size)

    def network(self) -> Model:
        """Untrained."""
        return build_model(self.config, 0).to(self.compute.device).train()


def one_network(case: Case) -> list[Row]:
    """The rows of one network."""
    data, options, device = case.data(), case.options, case.compute.device
    images = data.batch(data.train, device)
    some = TrainingBatch(images[: options.batch_size], images[: options.batch_size], None)
    works: dict[str, tuple[Work, int]] = {
        "step": (one_epoch(case.network(), data, options, case.compute), STEPS),
        "bare": (bare_loop(case.network(), images, options), STEPS),
        "layers": (layers_alone(case.network(), some, options.posterior_samples), 1),
        "product": (product(device), 1),
    }
    with ExitStack() as stack:
        for title, contestant in able()[0].items():
            model = case.network()
            turns = taking_turns(
                contestant, model, objective_by_hand(model, options), images,
                turns=case.rounds + 1, steps=STEPS, options=options,
                folder=case.folder / f"{title}, {case.name}",
            )  # fmt: skip
            works[title] = (stack.enter_context(turns), STEPS)
        found = in_turns(case.name, works, device, case.rounds)
    flop = flop_of(case.network(), some, options.posterior_samples)
    return rows_of(case.name, found, flop)


def compiled(case: Case) -> list[Row]:
    """The row of one network whose passes are compiled, beside the same as it is."""
    data, ways = case.data(), (case.compute, replace(case.compute, compile=True))
    step, work = (one_epoch(case.network(), data, case.options, way) for way in ways)
    started = time.perf_counter()
    work()
    took = time.perf_counter() - started
    works = {"step": (step, STEPS), "compiled": (work, STEPS)}
    found = in_turns(case.name, works, case.compute.device, case.rounds)
    note = f"ms a step: {1e3 * statistics.median(found['step']):.0f}; compiled in {took:.0f} s"
    return [
        row(
            f"the network's passes compiled, {case.name}",
            "twinvae's step",
            ratios(found["compiled"], found["step"]),
            most=0.9,
            note=note,
        )
    ]


def in_turns(
    name: str, works: dict[str, tuple[Work, int]], device: torch.device, rounds: int
) -> dict[str, list[float]]:
    """Seconds a step of each contestant, round by round."""
    found: dict[str, list[float]] = {key: [] for key in works}
    with progress_bar(name, rounds) as bar:
        for number in range(-1, rounds):  # the first round warms up
            for key, (work, steps) in works.items():
                spent = seconds(work, device) / steps
                if number >= 0:
                    found[key].append(spent)
            bar.advance(number >= 0)
    return found


def rows_of(name: str, found: dict[str, list[float]], flop: int) -> list[Row]:
    """The table's lines of one network; ``flop``: of its step."""
    what = f"training step, {name}"
    step = found["step"]
    rows = [row(what, "the same network in a bare loop", ratios(step, found["bare"]), most=1.05)]
    for title in trainers.CONTESTANTS:
        if title in found:
            rows.append(
                row(
                    f"{title}'s trainer, {name}",
                    "twinvae's step",
                    ratios(found[title], step),
                    least=1.5,
                )
            )
    share = [100 * part for part in ratios(found["layers"], step)]
    rows.append(
        row(f"convolutions and dense layers alone, {name}", "of the step", share, "%", least=85)
    )
    peak = [2 * PRODUCT**3 / spent for spent in found["product"]]
    reached = [100 * flop / spent / p for spent, p in zip(step, peak, strict=True)]
    against = f"FLOP/s of a {PRODUCT}×{PRODUCT} product"
    rows.append(row(f"FLOP/s of the step, {name}", against, reached, "%"))
    took = ", ".join(f"{key} {short(1e3 * statistics.median(of))}" for key, of in found.items())
    rows[0]["note"] = f"ms a step: {took}; {flop / 1e9:.3g} GFLOP"
    return rows


def settings_of(name: str) -> tuple[ModelConfig, TrainConfig]:
    """What a network is and how it is trained."""
    if name == SLAB:
        run = load_config(SLAB_CONFIG, {"training.healthy.labels": None})
        return run.models.healthy, run.training.healthy
    preset, role = NETWORKS[name]
    run = load_config(preset)
    return getattr(run.models, role), getattr(run.training, role)


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=[*NETWORKS, SLAB], help="one network")
    parser.add_argument("--compile", action="store_true", help="against torch.compile, no other")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    compute = Compute.resolve(ComputeConfig(device=given.device, threads=given.threads))
    measure = compiled if given.compile else one_network
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [given.only] if given.only else NETWORKS:
            case = Case(name, *settings_of(name), compute, Path(folder), given.rounds)
            rows += measure(case)
    peak = row("memory of all contestants' training", "", [peak_gib()], "GiB")
    write_part(given.out, [*rows, peak], able()[1], torch=torch.__version__)


if __name__ == "__main__":
    main()
