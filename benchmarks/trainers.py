"""Lightning's and pythae's trainers as contestants of benchmarks/training_step.py.

Each runs as its makers' examples do: its own loop, data loader, progress bar and defaults, on the
network, objective, augmentation and batches of the other contestants. Its loop runs in a thread
that stops at a gate after every ``steps`` steps, so that it takes turns with the others within one
long epoch: what a trainer does once an epoch or once a training is not counted against it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]
"""Slices (batch, channels, H, W) → what is minimised, augmentation included."""
Work = Callable[[], None]
Contestant = Callable[..., None]


class Gate:
    """Lets another thread go on ``steps`` steps at a time."""

    def __init__(self, steps: int) -> None:
        self._steps, self._taken = steps, 0
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._over = False
        self._error: BaseException | None = None

    def ready(self) -> None:
        """In the thread: wait for the first turn, once."""
        if not self._over and self._taken == 0:
            self._go.acquire()

    def step_done(self) -> None:
        """In the thread: where a turn is over, say so and wait for the next."""
        self._taken += 1
        if self._taken % self._steps == 0 and not self._over:
            self._done.release()
            self._go.acquire()

    def turn(self) -> None:
        """In the main thread: let the other take its turn, and wait for its end."""
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise RuntimeError(f"the trainer ended: {self._error!r}") from self._error

    def run(self, train: Callable[[], object], threads: int) -> threading.Thread:
        """Start ``train`` in a thread of so many OpenMP threads."""

        def work() -> None:
            torch.set_num_threads(threads)  # OpenMP keeps the number by thread
            try:
                train()
            except BaseException as error:  # told by the next turn
                self._error = error
            self._done.release()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def open(self) -> None:
        """Let it go to its end."""
        self._over = True
        self._go.release()


@contextlib.contextmanager
def taking_turns(
    contestant: Contestant, network: torch.nn.Module, objective: Objective, images: Tensor,
    *, turns: int, steps: int, options: Any, folder: Path,
) -> Iterator[Work]:  # fmt: skip
    """A trainer stopped at its gate; each call of what is given lets it take ``steps`` steps.

    ``turns``: how often it will be called at most; ``options``: a ``TrainConfig``.
    """
    gate, threads = Gate(steps), torch.get_num_threads()

    def train() -> None:
        # One turn more than will be asked for, so that no epoch ends while the clock runs.
        contestant(
            gate, network, objective, images, total=(turns + 1) * steps, options=options,
            folder=folder,
        )  # fmt: skip

    thread = gate.run(train, threads)
    try:
        yield gate.turn
    finally:
        gate.open()
        thread.join(timeout=600)


def lightning(
    gate: Gate, network: torch.nn.Module, objective: Objective, images: Tensor,
    *, total: int, options: Any, folder: Path,
) -> None:  # fmt: skip
    """A LightningModule around the loss, the Trainer's defaults, a DataLoader of tensors."""
    import lightning as pl
    from torch.utils.data import DataLoader, RandomSampler, TensorDataset

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = objective(batch[0])
            self.log("loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)

    class AtGate(pl.Callback):
        def on_train_start(self, *_: object) -> None:
            gate.ready()

        def on_train_batch_end(self, *_: object) -> None:
            gate.step_done()  # fetching the next batch is part of the next step

    data = TensorDataset(images)
    size = options.batch_size
    loader = DataLoader(data, batch_size=size, sampler=RandomSampler(data, True, total * size))
    trainer = pl.Trainer(
        max_steps=total,
        callbacks=[AtGate()],
        accelerator="gpu" if images.is_cuda else "cpu",
        devices=1,
        gradient_clip_val=options.clip_norm,
        default_root_dir=folder,
    )
    trainer.fit(Module(), loader)


def pythae(
    gate: Gate, network: torch.nn.Module, objective: Objective, images: Tensor,
    *, total: int, options: Any, folder: Path,
) -> None:  # fmt: skip
    """pythae's BaseTrainer on a pythae VAE whose forward pass is the network's objective."""
    from pythae.data.datasets import BaseDataset, DatasetOutput
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Ours(VAE):
        def __init__(self) -> None:
            shape = tuple(images.shape[1:])
            super().__init__(VAEConfig(input_dim=shape, latent_dim=2))
            self.encoder = self.decoder = torch.nn.Identity()
            self.network = network

        def forward(self, inputs: DatasetOutput, **_: object) -> ModelOutput:
            return ModelOutput(loss=objective(inputs["data"]))

    class Repeated(BaseDataset):
        def __len__(self) -> int:
            return total * options.batch_size

        def __getitem__(self, index: int) -> DatasetOutput:
            return DatasetOutput(data=images[index % len(images)], labels=0)

    class AtGate(TrainingCallback):
        def on_epoch_begin(self, *_: object, **__: object) -> None:
            gate.ready()

        def on_train_step_end(self, *_: object, **__: object) -> None:
            gate.step_done()

    config = BaseTrainerConfig(
        output_dir=str(folder),
        num_epochs=1,
        learning_rate=options.learning_rate,
        per_device_train_batch_size=options.batch_size,
        optimizer_cls="Adam",
        no_cuda=not images.is_cuda,
    )
    trainer = BaseTrainer(
        model=Ours(), train_dataset=Repeated(images, torch.zeros(len(images))),
        training_config=config, callbacks=[AtGate()],
    )  # fmt: skip
    trainer.train()


CONTESTANTS: dict[str, Contestant] = {"Lightning": lightning, "pythae": pythae}


def able() -> tuple[dict[str, Contestant], list[str]]:
    """Those that can be imported here, and why the others cannot."""
    found, reasons = {}, []
    for name, contestant in CONTESTANTS.items():
        try:
            __import__(name.lower())
        except Exception as error:  # a broken installation must not cost the others
            reasons.append(f"{name}'s trainer: {type(error).__name__}: {error}")
        else:
            found[name] = contestant
    return found, reasons
