"""Where pieces of work run, and on how many cores and GPUs and within which memory."""

from twinvae.parallel.machine import Device, free_memory, gpus
from twinvae.parallel.memory import keep_freed_memory
from twinvae.parallel.pool import (
    DIED,
    Execute,
    cores,
    end_with_parent,
    share_cores,
    sharing,
    ways,
    worker_number,
)

__all__ = [
    "DIED",
    "Device",
    "Execute",
    "cores",
    "end_with_parent",
    "free_memory",
    "gpus",
    "keep_freed_memory",
    "share_cores",
    "sharing",
    "ways",
    "worker_number",
]
