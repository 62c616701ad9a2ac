"""Where pieces of work run: here, in processes of this machine, or on a Dask cluster.

A way of running is called with a function and jobs, and gives each job with its result in the
order they finish. The function must be one of a module's own, and it, its jobs and its results
must pickle; what must survive a crash it writes to disk itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol, TypeVar

from twinvae.errors import StageError

Job = TypeVar("Job")
Result = TypeVar("Result")


class Execute(Protocol):
    """A way of running; close the generator to stop early."""

    def __call__(
        self, work: Callable[[Job], Result], jobs: Iterable[Job]
    ) -> Generator[tuple[Job, Result]]:
        """Each of ``jobs`` with ``work`` of it, in the order they finish."""
        ...


def ways(jobs: int | None = None, dask: str | None = None) -> Execute:
    """The way for ``jobs`` processes (default: one per core), or for a Dask scheduler's address."""
    if dask is not None:
        from twinvae.imaging.execute_dask import OnDask

        return OnDask(dask)
    count = cores() if jobs is None else jobs
    return InProcesses(count) if count > 1 else here


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def here(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Generator[tuple[Job, Result]]:
    """One after another, in this process."""
    for job in jobs:
        yield job, work(job)


@dataclass(frozen=True)
class InProcesses:
    """In ``count`` processes, with only a few jobs on their way at any time.

    The calling script's main module must be importable (``if __name__ == "__main__"``). Raises
    ``StageError`` when a process dies.
    """

    count: int

    def __call__(
        self, work: Callable[[Job], Result], jobs: Iterable[Job]
    ) -> Generator[tuple[Job, Result]]:
        """See ``Execute``."""
        waiting = iter(jobs)
        queue: dict[Future[Result], Job] = {}
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.count, mp_context=context, initializer=_start_worker)
        try:
            while True:
                for job in waiting:
                    queue[pool.submit(work, job)] = job
                    if len(queue) >= 2 * self.count:
                        break
                if not queue:
                    return
                finished: set[Future[Result]] = wait(queue, return_when=FIRST_COMPLETED).done
                for future in finished:
                    yield queue.pop(future), future.result()
        except BrokenProcessPool:
            raise StageError(
                "prepare: a worker process died, perhaps for lack of memory; run it again to go "
                "on where it stopped, with fewer jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
