"""Several processes that train one model together, as torchrun starts them.

The first, rank 0, does the whole command and alone writes; the others wait to be told of a
training, take their part of its every batch, and wait for the next. A process that torchrun did not
start, or that one of them starts in turn, is alone.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor

from twinvae.errors import ConfigError, StageError
from twinvae.parallel import cores
from twinvae.training.compute import set_arithmetic

_PATIENCE = timedelta(days=30)  # the others wait while the first prepares, scores and reports


@dataclass(frozen=True)
class Ranks:
    """Which of ``count`` processes this is, from 0, and how many of them this machine has."""

    rank: int = 0
    count: int = 1
    on_machine: int = 1

    def part(self, n: int) -> slice:
        """Its part of ``n`` rows: never none, for a pass needs one; see ``weight``."""
        first, end = n * self.rank // self.count, n * (self.rank + 1) // self.count
        return slice(first, end) if first < end else slice(0, 1)

    def weight(self, n: int) -> float:
        """How much of ``n`` rows its part is, as a share; 0 where there is none for it."""
        return (n * (self.rank + 1) // self.count - n * self.rank // self.count) / n

    def add_up(self, tensors: Sequence[Tensor], weight: float) -> None:
        """Make each the sum over all ranks of ``weight`` times theirs, with the same bits on all.

        Raises ``StageError`` when another rank has ended.
        """
        if self.count == 1:
            return
        from torch import distributed

        together = torch.cat([each.flatten() for each in tensors]) * weight
        with _all_there():
            distributed.all_reduce(together)
        for each, total in zip(
            tensors, torch.split(together, [t.numel() for t in tensors]), strict=True
        ):
            each.copy_(total.view_as(each))


@dataclass
class _Process:
    """What is so of this process."""

    ranks: Ranks = Ranks()
    left: bool = False
    """Whether the others were left in the middle of a training."""


_process = _Process()


def ranks() -> Ranks:
    """Those of this process."""
    return _process.ranks


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the others that torchrun started, and let them go when rank 0 leaves the block.

    A rank takes the GPU of its number on its machine.
    """
    from torch import distributed

    own, count, here = (int(os.environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    number = int(os.environ["LOCAL_RANK"])
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number < gpus:
        torch.cuda.set_device(number)
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    _process.ranks = Ranks(own, count, here)
    try:
        yield _process.ranks
    finally:
        if own == 0 and not _process.left:
            _tell(None)
        _process.ranks = Ranks()
    distributed.destroy_process_group()


@contextmanager
def helped(
    task: Callable[[], object], device: torch.device, shared: type[Exception]
) -> Iterator[None]:
    """Tell the others of a task, on rank 0, and do it with them in this block.

    ``shared`` is an error that every rank meets at once. After any other the rest cannot be helped,
    and the others end with this process. Raises ``ConfigError`` when ranks outnumber the GPUs.
    """
    here = ranks()
    if here.count == 1:
        yield
        return
    if device.type == "cuda" and here.on_machine > torch.cuda.device_count():
        raise ConfigError(
            f"compute.device: expected at most one process a GPU, found {here.on_machine} on "
            f"{torch.cuda.device_count()}; give torchrun another --nproc-per-node, or --device cpu"
        )
    if _process.left:
        raise StageError(
            "expected the other processes of torchrun, found them left behind by the training "
            "that failed; run the same command again to go on"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, max(1, cores() // here.on_machine)))
    deterministic = torch.are_deterministic_algorithms_enabled()
    _process.left = True
    _tell((task(), torch.get_num_threads(), deterministic))
    try:
        yield
    except shared:
        _process.left = False
        raise
    finally:
        torch.set_num_threads(before)
    _process.left = False


def told() -> Any:
    """What rank 0 tells, on the others: a task, or None when there is nothing more to do."""
    from torch import distributed

    found: list[Any] = [None]
    with _all_there():
        distributed.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    message = pickle.loads(found[0])
    if message is None:
        return None
    task, threads, deterministic = message
    torch.set_num_threads(threads)
    set_arithmetic(deterministic=deterministic)
    return task


def _tell(message: object) -> None:
    from torch import distributed

    packed = io.BytesIO()
    _ByName(packed, protocol=5).dump(message)
    with _all_there():
        distributed.broadcast_object_list([packed.getvalue()], src=0, device=torch.device("cpu"))


class _ByName(pickle.Pickler):
    """Arrays that are mapped from files travel as the files' names."""

    def reducer_override(self, given: Any) -> Any:
        if isinstance(given, np.memmap) and isinstance(given.base, mmap.mmap):
            return np.load, (str(given.filename), "r")
        return NotImplemented


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        here = ranks()
        raise StageError(
            f"rank {here.rank} of {here.count}: expected the other processes to go on, found "
            f"{' '.join(str(error).split())[:200]}; run the same command again to go on after the "
            f"last whole epoch"
        ) from None
