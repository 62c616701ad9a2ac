"""One ``fit``, used once per model."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from twinvae.config import TrainConfig, dump_config
from twinvae.errors import DataError, StageError
from twinvae.files import atomic_path, digest, read_json, write_json, write_text
from twinvae.models import (
    Loss,
    Model,
    TrainingBatch,
    load_model,
    round_weights,
    save_model,
)
from twinvae.progress import Bar, progress_bar
from twinvae.provenance import STAGE_CODE, code_digest
from twinvae.training.checkpoint import (
    ADVERSARY,
    MAIN,
    Checkpoint,
    delete_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from twinvae.training.compute import Compute
from twinvae.training.data import SliceData, TrainingData, augment

_FINISHED = "trained.json"
MODEL_FILES = ("model.json", "weights.safetensors", "log.jsonl", _FINISHED)
"""What a finished training leaves, in the order it is written."""
_VALIDATION_SLICES = 512  # enough to see overfitting; more would only cost time
_LOOK_EVERY = 10  # steps between two looks at the loss
_FINAL_RATE = 0.02  # where the cosine schedule ends, as a share of the learning rate


def fit(
    model: Model,
    data: TrainingData,
    options: TrainConfig,
    compute: Compute,
    *,
    seed: int,
    folder: Path,
    label: str,
    start: str = "",
    pool: Path | None = None,
    fresh: bool = False,
) -> Model:
    """Train ``model`` and store it in ``folder``; resume there if it was cut off.

    ``start`` names the weights that ``model`` comes with, unless they follow from ``seed``.
    With a ``pool``, the very training (same slices, settings and seed) is looked for there first,
    and kept there: runs of one study, in whatever processes, do each training once. With ``fresh``
    neither a finished training nor a part of one is used.

    Every epoch draws from generators seeded by (seed, epoch), so a resumed training gives the very
    weights of an uninterrupted one; a finished one is loaded. The global random state is not
    touched. Raises ``DataError`` when there is nothing to train on and ``StageError`` when the loss
    stops being finite.
    """
    if not len(data.train):
        raise DataError(
            f"{label}: expected training slices, found none; list subjects of the split train"
        )
    model.to(compute.device).train()
    data = _near(data, compute.device)
    training = _Training(model, _optimisers(model, options), data, options, compute, seed)
    fingerprint = _fingerprint(training, start)
    if pool is None:
        return _fit(training, fingerprint, folder, label, fresh=fresh)
    kept = pool / fingerprint
    pool.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{kept}.lock"):
        fitted = _fit(training, fingerprint, kept, label, fresh=fresh)
    if fresh or not _is_finished(folder, fingerprint):
        (folder / _FINISHED).unlink(missing_ok=True)
        for name in MODEL_FILES:
            with atomic_path(folder / name) as copy:
                shutil.copy2(kept / name, copy)
    return fitted


def _near(data: TrainingData, device: torch.device) -> TrainingData:
    """``data``, its slices on the GPU that trains where a quarter of the free memory holds them."""
    if device.type != "cuda" or not isinstance(data, SliceData):
        return data
    free, _ = torch.cuda.mem_get_info(device)
    return data.on_device(device) if data.images.nbytes < free / 4 else data


def _is_finished(folder: Path, fingerprint: str) -> bool:
    """Whether the training of that fingerprint is complete in ``folder``."""
    path = folder / _FINISHED
    return path.is_file() and bool(read_json(path)["fingerprint"] == fingerprint)


def _fit(training: _Training, fingerprint: str, folder: Path, label: str, *, fresh: bool) -> Model:
    """Go on with ``training`` in ``folder`` until it is finished, or load it if it is."""
    model, optimisers = training.model, training.optimisers
    data, options, compute = training.data, training.options, training.compute
    finished = folder / _FINISHED
    if fresh:
        finished.unlink(missing_ok=True)
        delete_checkpoint(folder)
    if _is_finished(folder, fingerprint):
        return load_model(folder).to(compute.device)
    done = load_checkpoint(folder, model, optimisers, fingerprint)
    log = _resumed_log(folder / "log.jsonl", done)
    steps = math.ceil(len(data.train) / options.batch_size)
    with progress_bar(label, options.epochs * steps) as bar:
        bar.already(done * steps)
        for epoch in range(done, options.epochs):
            log.append(training.epoch(epoch, bar))
            # The log first: a kill between the two then leaves a line too many, which is cut.
            write_text(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in log))
            save_checkpoint(folder, model, optimisers, Checkpoint(epoch + 1, fingerprint))
    model.eval()
    if options.half:
        round_weights(model)
    save_model(model, folder)
    seconds = sum(row["seconds"] for row in log)
    write_json(finished, {"fingerprint": fingerprint, "seconds": seconds, **size_of(model)})
    delete_checkpoint(folder)
    return model


@dataclass
class _Training:
    """What every epoch of one training shares."""

    model: Model
    optimisers: Mapping[str, torch.optim.Adam]
    data: TrainingData
    options: TrainConfig
    compute: Compute
    seed: int

    def epoch(self, epoch: int, bar: Bar) -> dict[str, Any]:
        """One pass through the training slices; returns its line of the log."""
        started = time.monotonic()
        generator = _generator(self.compute.device, self.seed, epoch)
        batches = list(_batches(self.data.train, self.options.batch_size, self.seed, epoch))
        sums = torch.zeros(3, dtype=torch.float64, device=self.compute.device)
        for step, rows in enumerate(batches):
            epochs_done = epoch + step / len(batches)
            rate = _learning_rate(self.options, epochs_done / self.options.epochs)
            for group in (g for each in self.optimisers.values() for g in each.param_groups):
                group["lr"] = rate
            weight = _kl_weight(self.options, epochs_done)
            terms = torch.stack(self.step(rows, weight, generator)).detach().double()
            sums += terms * len(rows)
            bar.advance()
            if step % _LOOK_EVERY == 0 or step == len(batches) - 1:
                _look(terms, sums, epoch, bar)
        objective, log_likelihood, kl = (sums / len(self.data.train)).tolist()
        return {
            "epoch": epoch + 1,
            "objective": objective,
            "log_likelihood": log_likelihood,
            "kl": kl,
            "elbo": log_likelihood - kl,
            "kl_weight": weight,
            "val_elbo": self.validation_elbo(),
            "seconds": time.monotonic() - started,
        }

    def step(self, rows: NDArray[np.intp], kl_weight: float, generator: torch.Generator) -> Loss:
        """One step of every optimiser on the slices ``rows``, the adversary's after the rest."""
        clean = self.data.batch(rows, self.compute.device, generator)
        noisy, target, mask = augment(clean, self.mask(rows), self.options.augment, generator)
        condition = self.data.conditions(rows, self.compute.device)
        batch = TrainingBatch(noisy, target, mask, condition)
        samples = self.options.posterior_samples
        with self.compute.autocast():
            loss = self.model.loss(batch, samples=samples, kl_weight=kl_weight, generator=generator)
        self.descend(MAIN, loss.objective)
        if ADVERSARY in self.optimisers:
            with self.compute.autocast():
                against = self.model.adversary_loss(noisy, generator)
            self.descend(ADVERSARY, against)
        return loss

    def descend(self, name: str, objective: Tensor) -> None:
        """One step of the optimiser ``name``, which leaves all other parameters alone."""
        optimiser = self.optimisers[name]
        self.model.zero_grad(set_to_none=True)
        objective.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.options.clip_norm)
        optimiser.step()

    def mask(self, rows: NDArray[np.intp]) -> Tensor | None:
        """Where the likelihood counts; None for everywhere."""
        return self.data.mask(rows, self.compute.device, brain=self.options.mask_background)

    def validation_elbo(self) -> float | None:
        """ELBO of untouched validation slices with one posterior sample, in nats a slice."""
        val = self.data.val
        if not len(val):
            return None
        rows = val[np.unique(np.linspace(0, len(val) - 1, _VALIDATION_SLICES, dtype=np.intp))]
        generator = _generator(self.compute.device, self.seed, -1)
        total = 0.0
        with torch.inference_mode(), self.compute.autocast():
            for part in np.array_split(rows, math.ceil(len(rows) / 128)):
                x = self.data.batch(part, self.compute.device, generator)
                condition = self.data.conditions(part, self.compute.device)
                batch = TrainingBatch(x, x, self.mask(part), condition)
                loss = self.model.loss(batch, generator=generator)
                total += (loss.log_likelihood - loss.kl).item() * len(part)
        return total / len(rows)


def _look(terms: Tensor, sums: Tensor, epoch: int, bar: Bar) -> None:
    """Say how the step went, and stop if any since the last look did not end in a number.

    Looking waits for a GPU; steps in between do not.
    """
    now, so_far = torch.stack([terms, sums]).tolist()
    if not all(map(math.isfinite, (now[0], so_far[0]))):
        raise StageError(
            f"training diverged in epoch {epoch + 1}: expected a finite loss, found "
            f"{now[0] if not math.isfinite(now[0]) else so_far[0]}; try a smaller learning_rate or "
            f"clip_norm"
        )
    bar.note(f"−log p {-now[1]:.0f}  KL {now[2]:.1f}")


def size_of(model: Model) -> dict[str, int]:
    """How many numbers it has learned, as ``trained.json`` says."""
    return {"parameters": sum(p.numel() for p in model.parameters())}


def _optimisers(model: Model, options: TrainConfig) -> dict[str, torch.optim.Adam]:
    """Adam for the model and, where it has an adversary, another for that."""
    adversary = list(model.adversary_parameters())
    against = {id(p) for p in adversary}
    groups = {MAIN: [p for p in model.parameters() if id(p) not in against], ADVERSARY: adversary}
    return {
        name: torch.optim.Adam(parameters, lr=options.learning_rate, fused=True)
        for name, parameters in groups.items()
        if parameters
    }


def _batches(
    rows: NDArray[np.intp], size: int, seed: int, epoch: int
) -> Iterator[NDArray[np.intp]]:
    """Rows in an order of this epoch's own; sorted within a batch, for the memory map's sake."""
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    for start in range(0, len(order), size):
        yield np.sort(order[start : start + size])


def _kl_weight(options: TrainConfig, epochs_done: float) -> float:
    ramp = options.kl_ramp_epochs
    return options.kl_weight * (min(1.0, epochs_done / ramp) if ramp else 1.0)


def _learning_rate(options: TrainConfig, progress: float) -> float:
    if options.schedule == "constant":
        return options.learning_rate
    falling = 0.5 * (1 + math.cos(math.pi * progress))
    return options.learning_rate * (_FINAL_RATE + (1 - _FINAL_RATE) * falling)


def _generator(device: torch.device, seed: int, epoch: int) -> torch.Generator:
    entropy = np.random.SeedSequence((seed, epoch + 1)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(entropy[0] >> np.uint64(1)))


def _fingerprint(training: _Training, start: str) -> str:
    """Changes with everything that decides the weights and the log."""
    data = training.data
    return digest(
        {
            "code": code_digest(STAGE_CODE["train"]),
            "model": dump_config(training.model.config),
            "training": dump_config(training.options),
            "seed": training.seed,
            "start": start,
            "precision": "bf16" if training.compute.bf16 else "fp32",
            "train": data.content(data.train),
            "val": data.content(data.val),
        }
    )


def _resumed_log(path: Path, epochs: int) -> list[dict[str, Any]]:
    """The log's first ``epochs`` lines: a kill may have come between log and checkpoint."""
    if not epochs or not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return rows[:epochs]
