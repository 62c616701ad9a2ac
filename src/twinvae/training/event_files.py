"""A training's log as event files for TensorBoard, where ``compute.log`` asks for them.

What counts is ``log.jsonl``: these files hold the same lines, to be watched while training goes on,
and nothing reads them. They are made anew, from the first epoch, whenever training goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twinvae.config import ComputeConfig
from twinvae.errors import ConfigError
from twinvae.outputs import claim, mark, own_files, remove

FOLDER = "tensorboard"
"""Within the model's folder."""

Row = Mapping[str, Any]
"""A line of ``log.jsonl``."""


def require_tensorboard(options: ComputeConfig) -> None:
    """Raise ``ConfigError`` when TensorBoard is asked for and not installed."""
    if options.log == "tensorboard" and find_spec("tensorboard") is None:
        raise ConfigError(
            "compute.log: expected TensorBoard to be installed, found none; "
            'pip install "twinvae[tensorboard]", or leave compute.log at none'
        )


@contextmanager
def watched(folder: Path, done: Iterable[Row], log: str) -> Iterator[Callable[[Row], None]]:
    """Yield what adds a line to the event files in ``folder/tensorboard``, those ``done`` before.

    Nothing is written unless ``log`` is ``tensorboard``. Raises ``OutputError`` when that folder
    holds what twinvae did not write.
    """
    if log != "tensorboard":
        yield lambda row: None
        return
    room = folder / FOLDER
    claim(room, "training log")
    remove(room)
    claim(room, "training log")
    others = set(room.iterdir())
    writer = import_module("torch.utils.tensorboard").SummaryWriter(log_dir=str(room))
    try:
        mark(room, "training log", "", set(room.iterdir()) - others)
        for row in done:
            _add(writer, row)
        yield lambda row: _add(writer, row)
    finally:
        writer.close()


def keep_events(folder: Path, log: str) -> None:
    """Write the event files of a finished training unless they are there."""
    if log == "tensorboard" and not own_files(folder / FOLDER):
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        with watched(folder, map(json.loads, lines), log):
            pass


def forget_events(folder: Path) -> None:
    """Remove the event files, and nothing else."""
    remove(folder / FOLDER)


def _add(writer: Any, row: Row) -> None:
    """One point of each curve, at the epoch; at once on disk."""
    for name, value in row.items():
        if name != "epoch" and value is not None:
            writer.add_scalar(name, value, row["epoch"])
    writer.flush()
