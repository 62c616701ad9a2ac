"""Pieces of work on a Dask cluster that is already there.

Work that a dying worker takes with it is given to another one. Dask gives up what was on four
workers that died, each job that waited there along with the one that did it; these are then done
again, one at a time, and only one that kills so many workers once more is lost.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from twinvae import __version__
from twinvae.errors import ConfigError, StageError

Job = TypeVar("Job")
Result = TypeVar("Result")
_ON_WAY = 32  # jobs, at least: workers that come later find some


@dataclass(frozen=True)
class OnDask:
    """On the cluster of the scheduler at ``address``, such as `tcp://host:8786`.

    Its workers need the same version of twinvae and see the same files under the same paths.
    """

    address: str
    patience_s: float = 20.0
    """How long to wait for the scheduler, and for a first worker."""

    def __call__(
        self,
        work: Callable[[Job], Result],
        jobs: Iterable[Job],
        lost: Callable[[Job], Result],
    ) -> Generator[tuple[Job, Result]]:
        """See ``Execute``; raises ``StageError`` when the cluster cannot be used."""
        distributed = _distributed()
        client = self._client(distributed)
        try:
            self._check_versions(client)
            waiting = iter(jobs)
            on_way: dict[Any, Job] = {}
            suspects: list[Job] = []
            alone = False
            finished = distributed.as_completed(loop=client.loop)
            while True:
                room = max(2 * sum(client.nthreads().values()), _ON_WAY) - len(on_way)
                coming = list(islice(waiting, max(room, 0)))
                if not coming and not on_way and suspects:
                    alone, coming = True, [suspects.pop()]
                for job in coming:
                    future = client.submit(work, job, pure=False)
                    on_way[future] = job
                    finished.add(future)
                if not on_way:
                    return
                future = next(finished)
                job = on_way.pop(future)
                try:
                    result = future.result()
                except distributed.KilledWorker:
                    if not alone:
                        suspects.append(job)
                        continue
                    result = lost(job)
                yield job, result
        finally:
            client.close()

    def _client(self, distributed: Any) -> Any:
        try:
            return distributed.Client(self.address, timeout=self.patience_s, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise StageError(
                f"--dask {self.address}: expected a Dask scheduler there, found none ({said})"
            ) from None

    def _check_versions(self, client: Any) -> None:
        try:
            client.wait_for_workers(1, timeout=self.patience_s)
        except TimeoutError:
            raise StageError(
                f"--dask {self.address}: expected at least one worker, found none within "
                f"{self.patience_s:.0f} s"
            ) from None
        for worker, found in client.run(version_here, on_error="return").items():
            if found != __version__:
                raise StageError(
                    f"--dask {self.address}: expected twinvae {__version__} on every worker, "
                    f"found {found} on {worker}"
                )


def version_here() -> str:
    """The version of twinvae that a worker has."""
    return __version__


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise ConfigError(
            "--dask: expected the package dask[distributed], found none; "
            'pip install "twinvae[dask]"'
        ) from None
