"""Prepare on a Dask cluster: a real scheduler, real worker processes, one killed on the way."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from cohort_of_six import break_scan, digests, write_six
from small_brain import STEPS

from twinvae.errors import ConfigError, StageError
from twinvae.imaging import prepare_cohort
from twinvae.parallel.dask_cluster import OnDask

SLOW = """
import time
from twinvae.imaging import prepare
from twinvae.imaging.prepared import prepare_scan as quick  # Dask loads this twice
def prepare_scan(scan, recipe):
    time.sleep(0.4)
    return quick(scan, recipe)
prepare.prepare_scan = prepare_scan
"""


def start(*words, **more):
    command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


@pytest.fixture
def cluster(tmp_path):
    """A scheduler's address and two workers, one thread each, that take 0.4 s more a scan."""
    pytest.importorskip("distributed", reason="needs twinvae[dask]")
    (tmp_path / "slow.py").write_text(SLOW)
    local = ["--host", "127.0.0.1"]
    scheduler = start("dask_scheduler", *local, "--port", "0", "--no-dashboard", cwd=tmp_path)
    found = None
    while found is None:
        line = scheduler.stderr.readline()
        assert line, "the scheduler died"
        found = re.search(r"Scheduler at:\s+(tcp://\S+)", line)
    options = [*local, "--no-nanny", "--nthreads", "1", "--no-dashboard", "--preload", "slow.py"]
    workers = [start("dask_worker", found[1], *options, cwd=tmp_path) for _ in range(2)]
    yield found[1], workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()
        process.stderr.close()


def kill_one(workers, parts):
    """Kill a worker as soon as a part is there, hence both are busy with further scans."""
    deadline = time.monotonic() + 30
    while not list(parts.glob("*.npz")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(workers[0].pid, signal.SIGKILL)
    workers[0].wait()


def test_a_killed_worker_does_not_change_the_bytes(cluster, tmp_path):
    address, workers = cluster
    manifest = write_six(tmp_path)
    break_scan(tmp_path, 5)
    whole = prepare_cohort(manifest, STEPS, tmp_path / "whole", jobs=1)
    command = [sys.executable, "-c", _PREPARE, manifest, tmp_path / "whole/recipe.json",
               tmp_path / "out", address]  # fmt: skip
    running = subprocess.Popen(command)
    kill_one(workers, tmp_path / "out" / "parts")
    assert len(list((tmp_path / "out/parts").glob("*.npz"))) < 5
    assert running.wait(60) == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert len(whole.skipped) == 1


_PREPARE = """
import sys
from pathlib import Path
from twinvae.imaging import FittedRecipe, prepare_cohort
manifest, recipe, out, address = sys.argv[1:]
steps = FittedRecipe.read(Path(recipe)).steps
prepare_cohort(Path(manifest), steps, Path(out), dask=address)
"""


def test_no_scheduler_there(tmp_path):
    pytest.importorskip("distributed", reason="needs twinvae[dask]")
    with pytest.raises(StageError, match="expected a Dask scheduler there, found none"):
        list(OnDask("tcp://127.0.0.1:9", patience_s=0.5)(abs, [1], abs))


def test_dask_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r'pip install "twinvae\[dask\]"'):
        prepare_cohort(write_six(tmp_path), STEPS, tmp_path / "out", dask="tcp://127.0.0.1:9")
    assert not (tmp_path / "out").exists()
