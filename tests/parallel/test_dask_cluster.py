"""What Dask gives up is looked at again, alone: the job that kills workers, not its neighbours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from twinvae.parallel.dask_cluster import OnDask, version_here


class KilledWorker(Exception):
    """As distributed's."""


class Future:
    """What has come of a job."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self) -> Any:
        if isinstance(self.value, KilledWorker):
            raise self.value
        return self.value


class Cluster:
    """Workers that all die of the job `deadly`, with every job that waits beside it."""

    def __init__(self, *_given: Any, **_named: Any) -> None:
        self.loop, self.waiting, self.most = None, [], 0

    def submit(self, work: Any, job: Any, *, pure: bool) -> Future:
        assert not pure
        future = Future(None)
        self.waiting.append((future, work, job))
        self.most = max(self.most, len(self.waiting))
        return future

    def wait_for_workers(self, count: int, timeout: float) -> None: ...

    def run(self, work: Any, on_error: str) -> dict[str, Any]:
        return {"tcp://worker": version_here()}

    def nthreads(self) -> dict[str, int]:
        return {"tcp://worker": 2}

    def close(self) -> None: ...

    def finished(self) -> Iterator[Future]:
        while self.waiting:
            deadly = any(job == "deadly" for _, _, job in self.waiting)
            for future, work, job in self.waiting:
                future.value = KilledWorker() if deadly else work(job)
            done, self.waiting = self.waiting, []
            yield from (future for future, _, _ in done)


def test_only_the_job_that_kills_workers_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()

    class Completed:
        def __init__(self, loop: Any) -> None:
            self.coming: Iterator[Future] = iter(())

        def add(self, future: Future) -> None: ...

        def __next__(self) -> Future:
            found = next(self.coming, None)
            if found is None:
                self.coming = cluster.finished()
                found = next(self.coming)
            return found

    fake = SimpleNamespace(
        Client=lambda *given, **named: cluster, as_completed=Completed, KilledWorker=KilledWorker
    )
    monkeypatch.setitem(sys.modules, "distributed", fake)
    jobs = [f"job {n}" for n in range(60)]
    jobs.insert(7, "deadly")
    found = dict(OnDask("tcp://here:1")(str.upper, jobs, lambda job: f"{job} lost"))
    assert found == {job: job.upper() for job in jobs} | {"deadly": "deadly lost"}
    assert cluster.most == 32
