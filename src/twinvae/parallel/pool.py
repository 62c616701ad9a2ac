"""Where pieces of work run: here, in processes of this machine, or on a Dask cluster.

Besides, what a process beside others must know: its share of the cores, and when to end.

A way of running is called with a function and jobs, and gives each job with its result in the
order they finish. The function must be one of a module's own, and it, its jobs and its results
must pickle; what must survive a crash it writes to disk itself.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from twinvae.parallel.memory import keep_freed_memory

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

Job = TypeVar("Job")
Result = TypeVar("Result")

DIED = "the process that worked on it died, perhaps for lack of memory"
"""A reason for ``lost``."""
_among = 1  # processes that share the cores
_number = 0  # of this process among its pool's


class Execute(Protocol):
    """A way of running; close the generator to stop early."""

    def __call__(
        self,
        work: Callable[[Job], Result],
        jobs: Iterable[Job],
        lost: Callable[[Job], Result],
    ) -> Generator[tuple[Job, Result]]:
        """Each of ``jobs`` with ``work`` of it, in the order they finish.

        Where a job takes the process down that does it, ``lost`` of it stands instead.
        """
        ...


def ways(
    jobs: int | None = None, dask: str | None = None, *, at_most: int | None = None
) -> Execute:
    """The way for ``jobs`` processes (default: one per core), or for a Dask scheduler's address.

    Of several processes ``at_most`` that many work at once: one if need be, but still another
    than this one, which then does not die with it.
    """
    if dask is not None:
        from twinvae.parallel.dask_cluster import OnDask

        return OnDask(dask)
    count = cores() if jobs is None else jobs
    if count <= 1:
        return here
    return InProcesses(count if at_most is None else max(1, min(count, at_most)))


def here(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    lost: Callable[[Job], Result],
) -> Generator[tuple[Job, Result]]:
    """One after another, in this process."""
    for job in jobs:
        yield job, work(job)


@dataclass(frozen=True)
class InProcesses:
    """In ``count`` processes, with only a few jobs on their way at any time.

    The calling script's main module must be importable (``if __name__ == "__main__"``). When a
    process dies, the jobs that were on their way are done again, each in a process of its own, to
    find the one that did it.
    """

    count: int

    def __call__(
        self,
        work: Callable[[Job], Result],
        jobs: Iterable[Job],
        lost: Callable[[Job], Result],
    ) -> Generator[tuple[Job, Result]]:
        """See ``Execute``."""
        waiting = iter(jobs)
        on_way: list[Job] = []
        while True:
            yield from self._until_one_dies(work, waiting, on_way)
            if not on_way:
                return
            while on_way:
                job = on_way.pop()
                alone = [job]
                yield from InProcesses(1)._until_one_dies(work, iter(()), alone)
                if alone:
                    yield job, lost(job)

    def _until_one_dies(
        self, work: Callable[[Job], Result], waiting: Iterator[Job], on_way: list[Job]
    ) -> Generator[tuple[Job, Result]]:
        """Do ``on_way``, then ``waiting``; ``on_way`` is what is unfinished when a process dies."""
        queue: dict[Future[Result], Job] = {}
        context = multiprocessing.get_context("spawn")
        started = context.Value("i", 0)
        pool = ProcessPoolExecutor(self.count, context, _start_worker, (started,))
        coming = itertools.chain(tuple(on_way), waiting)
        on_way.clear()
        try:
            while True:
                for job in itertools.islice(coming, 2 * self.count - len(queue)):
                    on_way.append(job)
                    queue[pool.submit(work, job)] = job
                if not queue:
                    return
                finished: set[Future[Result]] = wait(queue, return_when=FIRST_COMPLETED).done
                for future in finished:
                    result = future.result()
                    job = queue.pop(future)
                    on_way.remove(job)
                    yield job, result
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(started: Synchronized[int]) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it; take the next number."""
    global _number  # noqa: PLW0603  (a fact about the process)
    with started:
        _number = started.value
        started.value += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    end_with_parent()


def share_cores(among: int) -> None:
    """Use only this process's share from now on: ``among`` processes of twinvae work at once."""
    global _among  # noqa: PLW0603  (a fact about the process, like its affinity)
    _among = among


def sharing() -> int:
    """How many processes of twinvae, this one among them, share the machine."""
    return _among


def worker_number() -> int:
    """The number of this process among its pool's, from 0; 0 in a process of no pool."""
    return _number


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
