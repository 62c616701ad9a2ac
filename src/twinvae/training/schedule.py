"""What is different from step to step of a training, all of it decided by options and seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from twinvae.config import TrainConfig

_FINAL_RATE = 0.02  # where the cosine schedule ends, as a share of the learning rate


def batches(rows: NDArray[np.intp], size: int, seed: int, epoch: int) -> Iterator[NDArray[np.intp]]:
    """Rows in an order of this epoch's own; sorted within a batch, for the memory map's sake."""
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    for start in range(0, len(order), size):
        yield np.sort(order[start : start + size])


def kl_weight(options: TrainConfig, epochs_done: float) -> float:
    """Weight of the KL after so many epochs, whole or not."""
    ramp = options.kl_ramp_epochs
    return options.kl_weight * (min(1.0, epochs_done / ramp) if ramp else 1.0)


def learning_rate(options: TrainConfig, progress: float) -> float:
    """Learning rate when the share ``progress`` of the training is done."""
    if options.schedule == "constant":
        return options.learning_rate
    falling = 0.5 * (1 + math.cos(math.pi * progress))
    return options.learning_rate * (_FINAL_RATE + (1 - _FINAL_RATE) * falling)


def seeded(device: torch.device, seed: int, epoch: int, rank: int = 0) -> torch.Generator:
    """Generator of an epoch, the same each time; another for each ``rank`` > 0."""
    entropy = np.random.SeedSequence((seed, epoch + 1, rank)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(entropy[0] >> np.uint64(1)))
