"""One ``fit``, used once per model, by one process or by several that torchrun started."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from twinvae.config import ModelConfig, TrainConfig, dump_config
from twinvae.errors import DataError, StageError
from twinvae.files import atomic_path, digest, read_json, write_json, write_text
from twinvae.models import (
    Model,
    TrainingBatch,
    build_model,
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
from twinvae.training.event_files import watched
from twinvae.training.ranks import Ranks, helped, ranks, told
from twinvae.training.schedule import batches, kl_weight, learning_rate, seeded

_FINISHED = "trained.json"
MODEL_FILES = ("model.json", "weights.safetensors", "log.jsonl", _FINISHED)
"""What a finished training leaves, in the order it is written."""
_VALIDATION_SLICES = 512  # enough to see overfitting; more would only cost time
_LOOK_EVERY = 10  # steps between two looks at the loss


class DivergedError(StageError):
    """The loss stopped being a number; all ranks see the same loss."""


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
    touched. Of several ranks (``ranks.joined``) only the first calls this; the others are in
    ``help_train``. Raises ``DataError`` when there is nothing to train on and ``DivergedError``
    when the loss stops being finite.
    """
    if not len(data.train):
        raise DataError(
            f"{label}: expected training slices, found none; list subjects of the split train"
        )
    training = _Training.of(model, data, options, compute, seed)
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
    model, optimisers, options = training.model, training.optimisers, training.options
    compute = training.compute
    if fresh:
        (folder / _FINISHED).unlink(missing_ok=True)
        delete_checkpoint(folder)
    if _is_finished(folder, fingerprint):
        return load_model(folder).to(compute.device)
    done = load_checkpoint(folder, model, optimisers, fingerprint)
    log = _resumed_log(folder / "log.jsonl", done)
    steps = math.ceil(len(training.data.train) / options.batch_size)
    task = partial(_Task.of, training, fingerprint, folder, done)
    bars, told_on = progress_bar(label, options.epochs * steps), watched(folder, log, compute.log)
    with helped(task, compute.device, DivergedError), told_on as tell, bars as bar:
        bar.already(done * steps)
        for epoch in range(done, options.epochs):
            log.append(training.epoch(epoch, bar))
            # The log first: a kill between the two then leaves a line too many, which is cut.
            write_text(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in log))
            save_checkpoint(folder, model, optimisers, Checkpoint(epoch + 1, fingerprint))
            tell(log[-1])
    model.eval()
    if options.half:
        round_weights(model)
    save_model(model, folder)
    facts = {"fingerprint": fingerprint, "seconds": sum(row["seconds"] for row in log)}
    facts |= size_of(model)
    if training.ranks.count > 1:
        facts["processes"] = training.ranks.count
    write_json(folder / _FINISHED, facts)
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
    ranks: Ranks = field(default_factory=ranks)

    @classmethod
    def of(
        cls, model: Model, data: TrainingData, options: TrainConfig, compute: Compute, seed: int
    ) -> _Training:
        """Model and slices brought where they are trained."""
        model.to(compute.device).train()
        near = _near(data, compute.device)
        return cls(model, _optimisers(model, options), near, options, compute, seed)

    @cached_property
    def network(self) -> Model:
        """``model`` as its steps ask it."""
        return self.compute.trained(self.model)

    def epoch(self, epoch: int, bar: Bar) -> dict[str, Any]:
        """One pass through the training slices; returns its line of the log."""
        started = time.monotonic()
        generator = own = seeded(self.compute.device, self.seed, epoch)
        if self.ranks.count > 1:
            own = seeded(self.compute.device, self.seed, epoch, self.ranks.rank + 1)
        parts = list(batches(self.data.train, self.options.batch_size, self.seed, epoch))
        sums = torch.zeros(3, dtype=torch.float64, device=self.compute.device)
        for step, rows in enumerate(parts):
            epochs_done = epoch + step / len(parts)
            rate = learning_rate(self.options, epochs_done / self.options.epochs)
            for group in (g for each in self.optimisers.values() for g in each.param_groups):
                group["lr"] = rate
            weight = kl_weight(self.options, epochs_done)
            terms = self.step(rows, weight, generator, own).double()
            sums += terms * len(rows)
            bar.advance()
            if step % _LOOK_EVERY == 0 or step == len(parts) - 1:
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

    def step(
        self,
        rows: NDArray[np.intp],
        kl_weight: float,
        generator: torch.Generator,
        own: torch.Generator,
    ) -> Tensor:
        """One step of every optimiser on the slices ``rows``, the adversary's after the rest.

        Returns the loss's terms, (3,). ``generator`` draws alike on all ranks, ``own`` does not.
        """
        share = self.ranks.weight(len(rows))
        batch = self.batch(rows, generator, own)
        samples = self.options.posterior_samples
        with self.compute.autocast():
            loss = self.network.loss(batch, samples=samples, kl_weight=kl_weight, generator=own)
        terms = torch.stack(loss).detach()
        self.descend(MAIN, loss.objective, share, terms)
        if ADVERSARY in self.optimisers:
            with self.compute.autocast():
                against = self.network.adversary_loss(batch.x, own)
            self.descend(ADVERSARY, against, share)
        return terms

    def batch(
        self, rows: NDArray[np.intp], generator: torch.Generator, own: torch.Generator
    ) -> TrainingBatch:
        """Its part of the batch ``rows`` for this rank.

        Every rank augments whole batches of stored slices, which is cheap, and takes its part: they
        are then what one process sees. Slabs are painted by the rank that needs them.
        """
        part = self.ranks.part(len(rows))
        if not isinstance(self.data, SliceData):
            rows, part, generator = rows[part], slice(None), own
        clean = self.data.batch(rows, self.compute.device, generator)
        noisy, target, mask = augment(clean, self.mask(rows), self.options.augment, generator)
        condition = self.data.conditions(rows, self.compute.device)
        return TrainingBatch(
            noisy[part],
            target[part],
            None if mask is None else mask[part],
            None if condition is None else condition[part],
        )

    def descend(self, name: str, objective: Tensor, share: float, *terms: Tensor) -> None:
        """One step of the optimiser ``name``, which leaves all other parameters alone.

        ``objective`` is this rank's, ``share`` its part of the batch; of the ``terms`` all ranks'
        means are made, in place.
        """
        optimiser = self.optimisers[name]
        self.model.zero_grad(set_to_none=True)
        objective.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.ranks.add_up([*gradients, *terms], share)
        torch.nn.utils.clip_grad_norm_(parameters, self.options.clip_norm)
        optimiser.step()

    def mask(self, rows: NDArray[np.intp]) -> Tensor | None:
        """Where the likelihood counts; None for everywhere."""
        return self.data.mask(rows, self.compute.device, brain=self.options.mask_background)

    def validation_elbo(self) -> float | None:
        """ELBO of untouched validation slices with one posterior sample, in nats a slice.

        None without such slices, and on ranks that wait for the first.
        """
        val = self.data.val
        if not len(val) or self.ranks.rank:
            return None
        rows = val[np.unique(np.linspace(0, len(val) - 1, _VALIDATION_SLICES, dtype=np.intp))]
        generator = seeded(self.compute.device, self.seed, -1)
        total = 0.0
        with torch.inference_mode(), self.compute.autocast():
            for part in np.array_split(rows, math.ceil(len(rows) / 128)):
                x = self.data.batch(part, self.compute.device, generator)
                condition = self.data.conditions(part, self.compute.device)
                batch = TrainingBatch(x, x, self.mask(part), condition)
                loss = self.model.loss(batch, generator=generator)
                total += (loss.log_likelihood - loss.kl).item() * len(part)
        return total / len(rows)


@dataclass(frozen=True)
class _Task:
    """What other ranks need to know of a training; what lies in files they read there."""

    config: ModelConfig
    weights: Mapping[str, Tensor]
    data: TrainingData
    options: TrainConfig
    compute: Compute
    seed: int
    fingerprint: str
    folder: Path
    done: int

    @classmethod
    def of(cls, training: _Training, fingerprint: str, folder: Path, done: int) -> _Task:
        """``training`` after ``done`` epochs, to be gone on with in ``folder``."""
        model, data = training.model, training.data
        weights = {name: value.cpu() for name, value in model.state_dict().items()}
        if isinstance(data, SliceData):
            data = replace(data, resident=None)
        return cls(
            model.config, weights, data, training.options, training.compute, training.seed,
            fingerprint, folder.resolve(), done,
        )  # fmt: skip

    def help(self) -> None:
        """Take this rank's part in all epochs that are not done yet."""
        model = build_model(self.config, self.seed)
        model.load_state_dict(self.weights)
        training = _Training.of(model, self.data, self.options, self.compute, self.seed)
        done = load_checkpoint(self.folder, model, training.optimisers, self.fingerprint)
        if done != self.done:
            raise StageError(
                f"{self.folder}: expected the checkpoint of epoch {self.done} that rank 0 reads, "
                f"found epoch {done}; all processes must see the same files"
            )
        with progress_bar("", 1, hidden=True) as bar:
            for epoch in range(done, self.options.epochs):
                training.epoch(epoch, bar)


def help_train() -> None:
    """What all ranks but the first do: their parts of its trainings, until it has no more."""
    while (task := told()) is not None:
        with suppress(DivergedError):  # the first says so, and goes on with what else there is
            task.help()


def _look(terms: Tensor, sums: Tensor, epoch: int, bar: Bar) -> None:
    """Say how the step went, and stop if any since the last look did not end in a number.

    Looking waits for a GPU; steps in between do not.
    """
    now, so_far = torch.stack([terms, sums]).tolist()
    if not all(map(math.isfinite, (now[0], so_far[0]))):
        raise DivergedError(
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
            "compute": training.compute.kind,
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
