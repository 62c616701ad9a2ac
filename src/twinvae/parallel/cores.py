"""What a process of twinvae beside others must know: its share of the cores, and when to end."""

from __future__ import annotations

import multiprocessing
import os
import threading

_among = 1


def share_cores(among: int) -> None:
    """Use only this process's share from now on: ``among`` processes of twinvae work at once."""
    global _among  # noqa: PLW0603  (a fact about the process, like its affinity)
    _among = among


def cores() -> int:
    """Cores this process may use, at least 1; where the system does not say, all there are."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (count or 1) // _among)


def end_with_parent() -> None:
    """End this process when the one that started it does, even by a kill; for worker processes."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
