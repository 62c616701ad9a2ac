"""What keeping freed memory saves (``parallel.memory``): a healthy reconstruction, a training step.

    python benchmarks/freed_memory.py [--rounds 6]

Processes take turns, one that keeps freed memory and one that leaves malloc as it is; processor
seconds, one thread. The reconstruction is that of the 83 slices of a scan by bundle t2w's network;
the step is one of preset best's healthy network (``training_step.py``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from measuring import ratios, row, told, write_part

WORKS = {"reconstruct": "the healthy reconstruction of a scan", "step": "a step of best, healthy"}
TIMES = 4


def reconstruct() -> float:
    """Seconds for one scan's slices."""
    import torch

    from twinvae.detection.bundle import read_bundle
    from twinvae.detection.shipped import bundle_path

    network = read_bundle(bundle_path(Path("t2w"))).models.healthy.eval()
    slabs = torch.rand(83, 3, 96, 96) * (torch.rand(83, 1, 96, 96) > 0.4)
    with torch.inference_mode():
        network.examine(slabs)
        started = time.process_time()
        for _ in range(TIMES):
            network.examine(slabs)
    return (time.process_time() - started) / TIMES


def step() -> float:
    """Seconds for one step of training."""
    from training_step import STEPS, Case, Compute, ComputeConfig, one_epoch, settings_of

    compute = Compute.resolve(ComputeConfig(threads=1))
    with tempfile.TemporaryDirectory() as folder:
        name = "best, healthy"
        case = Case(name, *settings_of(name), compute, Path(folder), 1)
        epoch = one_epoch(case.network(), case.data(), case.options, compute)
        epoch()
        started = time.process_time()
        epoch()
        return (time.process_time() - started) / STEPS


def work(name: str, *, keep: bool) -> None:
    """Do it once in this process; print the seconds."""
    from twinvae.parallel import keep_freed_memory

    if keep and not keep_freed_memory():
        raise RuntimeError("expected glibc's malloc, found another one")
    with patch("twinvae.training.compute.keep_freed_memory"):
        print({"reconstruct": reconstruct, "step": step}[name]())


def measured(name: str, how: str) -> float:
    """The seconds of a process of its own."""
    return float(told([sys.executable, __file__, "--work", name, "--how", how]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--work", choices=list(WORKS), help=argparse.SUPPRESS)
    parser.add_argument("--how", choices=["leave", "keep"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        import torch

        torch.set_num_threads(1)
        work(given.work, keep=given.how == "keep")
        return
    rows = []
    for name, what in WORKS.items():
        pairs = [(measured(name, "leave"), measured(name, "keep")) for _ in range(given.rounds)]
        left, kept = (list(column) for column in zip(*pairs, strict=True))
        note = f"{statistics.median(kept):.3g} s"
        rows.append(row(f"{what}, memory kept", "memory left", ratios(kept, left), note=note))
    write_part(None, rows)


if __name__ == "__main__":
    main()
