"""Two processes train as one does, one of them writes, and neither outlives the other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training.test_fit import CPU, MODEL, log, toy_data
from twinvae.config import AugmentConfig, TrainConfig
from twinvae.errors import StageError
from twinvae.models import build_model
from twinvae.runs.folder import Run
from twinvae.training import fit
from twinvae.training.ranks import Ranks

EPOCHS = 4
AUGMENT = AugmentConfig(flip=0.5, brightness=0.2, noise=0.02)
OPTIONS = TrainConfig(epochs=EPOCHS, batch_size=16, learning_rate=3e-3, augment=AUGMENT)


def train(folder: Path, kind: str, options: TrainConfig = OPTIONS) -> None:
    model = build_model(MODEL.model_copy(update={"kind": kind}), 0)
    # The last batch is of 3 slices, 1 and 2 of them each rank's; or of 1, and one rank has none.
    data = toy_data(83 if kind == "dense_ae" else 81)
    fit(model, data, options, CPU, seed=0, folder=folder, label=kind)


def several(folder: Path) -> None:
    """What rank 0 trains, one after the other; a training that fails does not cost the next."""
    train(folder / "ae", "dense_ae")
    with pytest.raises(StageError, match="diverged"):
        train(folder / "odd", "dense_ae", OPTIONS.model_copy(update={"learning_rate": 1e30}))
    train(folder / "vae", "vae")
    train(folder / "adversarial_ae", "adversarial_ae")


def slowly(folder: Path) -> None:
    """As the first of ``several``, with time to be killed after each epoch."""
    save = fit.__globals__["save_checkpoint"]
    fit.__globals__["save_checkpoint"] = lambda *given: (save(*given), time.sleep(0.5))
    train(folder / "ae", "dense_ae")


_SCRIPT = """
import json, sys; sys.path.insert(0, {tests!r})
written = []
def look(event, given):
    if event == "open" and isinstance(given[1], str) and set(given[1]) & set("wax+"):
        written.append(str(given[0]))
    if event in ("os.rename", "os.mkdir"):
        written.append(str(given[0]))
from pathlib import Path
from training import test_ranks
from twinvae.training import help_train
from twinvae.training.ranks import joined
sys.addaudithook(look)
with joined() as ranks:
    help_train() if ranks.rank else test_ranks.{what}(Path({folder!r}))
print(json.dumps(written))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_two(what: str, folder: Path) -> list[subprocess.Popen[str]]:
    """Both ranks of ``what``, with the environment that torchrun gives them."""
    tests = str(Path(__file__).resolve().parents[1])
    script = _SCRIPT.format(tests=tests, what=what, folder=str(folder))
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, "-c", script], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each."""
    found = [process.communicate(timeout=240) for process in processes]
    return [(p.returncode, *said) for p, said in zip(processes, found, strict=True)]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """Where both ranks trained ``several`` models, and what each rank wrote."""
    folder = tmp_path_factory.mktemp("two")
    written = []
    for code, output, errors in ended(start_two("several", folder)):
        assert code == 0, errors
        written.append([name for name in json.loads(output) if str(folder) in name])
    return folder, written


def test_two_processes_give_the_weights_of_one(by_two, tmp_path) -> None:
    folder, _ = by_two
    train(tmp_path, "dense_ae")
    one, two = (load_file(f / "weights.safetensors") for f in (tmp_path, folder / "ae"))
    for name, weight in one.items():
        assert (two[name] - weight).norm() <= 1e-5 * weight.norm(), name
    logs = [log(f) for f in (tmp_path, folder / "ae")]
    for mine, theirs in zip(*logs, strict=True):
        for key in ("objective", "log_likelihood", "val_elbo"):
            assert theirs[key] == pytest.approx(mine[key], rel=1e-5)
    assert json.loads((folder / "ae/trained.json").read_text())["processes"] == 2
    assert "processes" not in json.loads((tmp_path / "trained.json").read_text())


@pytest.mark.parametrize("kind", ["vae", "adversarial_ae"])
def test_models_that_draw_learn_as_well(by_two, tmp_path, kind) -> None:
    folder, _ = by_two
    train(tmp_path, kind)
    one, two = log(tmp_path), log(folder / kind)
    fallen = one[0]["objective"] - one[-1]["objective"]
    assert fallen > 50
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["objective"] == pytest.approx(mine["objective"], abs=0.2 * fallen)


def test_only_the_first_process_writes(by_two) -> None:
    _, (first, second) = by_two
    assert first
    assert second == []


def test_a_killed_process_ends_the_other_and_a_second_call_goes_on(by_two, tmp_path) -> None:
    folder, _ = by_two
    processes = start_two("slowly", tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "ae/checkpoint.safetensors").exists():
        assert processes[0].poll() is None, processes[0].communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGKILL)
    (code, _, errors), _ = ended(processes)
    assert code != 0
    assert "rank 0 of 2: expected the other processes to go on" in errors
    assert not (tmp_path / "ae/weights.safetensors").exists()
    before = log(tmp_path / "ae")
    assert 1 <= len(before) < EPOCHS

    for code, _, errors in ended(start_two("slowly", tmp_path)):
        assert code == 0, errors
    assert log(tmp_path / "ae")[: len(before)] == before
    name = "ae/weights.safetensors"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_torchrun_trains_a_run(tiny_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder, symlinks=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               "--master-addr", "127.0.0.1", "--master-port", str(free_port()),
               "-m", "twinvae", "train", str(folder), "--force"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("train: done in") == 1
    for role in ("healthy", "mixed"):
        there = folder / "models" / role
        assert json.loads((there / "trained.json").read_text())["processes"] == 2
        mine, theirs = log(tiny_run.models / role), log(there)
        assert len(theirs) == len(mine)
        fallen = mine[0]["objective"] - mine[-1]["objective"]
        close = pytest.approx(mine[-1]["objective"], abs=0.2 * fallen)
        assert theirs[-1]["objective"] == close


@pytest.mark.parametrize(("n", "count"), [(11, 2), (1, 2), (32, 3), (2, 4)])
def test_every_row_counts_once(n: int, count: int) -> None:
    ranks = [Ranks(rank, count) for rank in range(count)]
    assert sum(each.weight(n) for each in ranks) == pytest.approx(1)
    counted = np.concatenate([np.arange(n)[r.part(n)] for r in ranks if r.weight(n)])
    assert counted.tolist() == list(range(n))
    for each in ranks:
        assert len(np.arange(n)[each.part(n)]) == max(1, round(each.weight(n) * n))


def test_alone_nothing_is_added_up() -> None:
    given = torch.tensor([1.0, 2.0])
    Ranks().add_up([given], 1.0)
    assert given.tolist() == [1, 2]
