"""Peers are fitted on healthy training slices only, and judged on the very slices of the run."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from twinvae.errors import ConfigError, StageError
from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run
from twinvae.scoring import Models, read_scores, write_scores
from twinvae.scoring.table import score_columns
from twinvae.training import to_tensor


def benchmark(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    return benchmark("peers")


class Farness:
    """Distance from the mean of what it was fitted on; remembers what it was given."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def fit(self, encodings: np.ndarray) -> None:
        self.fitted = encodings

    def decision_function(self, encodings: np.ndarray) -> np.ndarray:
        self.asked.append(len(encodings))
        return np.linalg.norm(encodings - self.fitted.mean(0), axis=1)


@pytest.fixture
def fakes(peers: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Farness]]:
    made: list[dict[str, Farness]] = []

    def make(seed: int) -> dict[str, Farness]:
        made.append({"knn": Farness(), "ecod": Farness()})
        return made[-1]

    monkeypatch.setattr(peers, "detectors", make)
    return made


def healthy_means(run: Run, role: str) -> np.ndarray:
    """Encodings of healthy training slices, one at a time, by hand."""
    store, models = SliceStore.open(run.slices), Models.load(run.models)
    rows = np.flatnonzero((store.index["role"] == "healthy") & (store.index["split"] == "train"))
    x = to_tensor(store.images[rows], torch.device("cpu"))
    with torch.no_grad():
        return np.concatenate([getattr(models, role).encode(one[None]).mean.numpy() for one in x])


def test_healthy_training_slices_only(
    peers: ModuleType, tiny_run: Run, fakes: list[dict[str, Farness]]
) -> None:
    table = peers.peers_table(tiny_run)
    assert len(fakes) == 2
    for role, made in zip(("healthy", "mixed"), fakes, strict=True):
        for fake in made.values():
            np.testing.assert_allclose(fake.fitted, healthy_means(tiny_run, role), atol=1e-5)
        assert made["knn"].asked == [len(table)]
        assert made["ecod"].asked == [1] * len(table), "or its scores depend on the others"


def test_table_is_the_runs_with_a_column_a_peer(
    peers: ModuleType,
    tiny_run: Run,
    fakes: list[dict[str, Farness]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "peers.tsv"
    monkeypatch.setattr(sys, "argv", ["peers.py", str(tiny_run.folder), "-o", str(out)])
    peers.main()
    own, table = read_scores(tiny_run.scores), read_scores(out)
    names = [f"pyod_{name}_{role}" for role in ("healthy", "mixed") for name in ("knn", "ecod")]
    assert score_columns(table) == (*score_columns(own), *names)
    assert table[own.columns].equals(own)
    store, models = SliceStore.open(tiny_run.slices), Models.load(tiny_run.models)
    rows = np.flatnonzero(store.index["split"] != "train")
    with torch.no_grad():
        z = models.mixed.encode(to_tensor(store.images[rows], torch.device("cpu"))).mean.numpy()
    far = np.linalg.norm(z - healthy_means(tiny_run, "mixed").mean(0), axis=1)
    np.testing.assert_allclose(table["pyod_knn_mixed"], far, atol=1e-4)


def test_scores_of_other_slices_are_refused(
    peers: ModuleType, tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("slices", "models"):
        (tmp_path / name).symlink_to(tiny_run.folder / name)
    shutil.copy(tiny_run.folder / "config.yaml", tmp_path)
    write_scores(tmp_path / "scores.tsv", read_scores(tiny_run.scores).iloc[::-1])
    with pytest.raises(StageError, match=r"scores\.tsv: expected the \d+ slices .* found others"):
        peers.peers_table(Run.open(tmp_path))
    monkeypatch.setattr(sys, "argv", ["peers.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"^peers: .*scores\.tsv: expected"):
        peers.main()
    assert not (tmp_path / "peers.tsv").exists()


def test_without_pyod_says_what_to_install(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyod", None)
    monkeypatch.setitem(sys.modules, "pyod.models.ecod", None)
    with pytest.raises(ConfigError, match=r"expected PyOD, .*pip install '\.\[peers\]'"):
        peers.detectors(0)


@pytest.mark.parametrize("name", ["ecod", "iforest", "knn", "lof", "ocsvm"])
def test_detectors_keep_the_contract_of_scores(peers: ModuleType, name: str) -> None:
    """Far is abnormal, seeded, and a slice's score does not depend on the others'."""
    pytest.importorskip("pyod")
    rng = np.random.default_rng(0)
    train, scored = rng.normal(size=(200, 4)), rng.normal(size=(30, 4))
    scored[:5] += 6

    def scores(which: Any) -> np.ndarray:
        found = dict(peers.peer_scores({"mixed": train}, {"mixed": scored[which]}, seed=1))
        return np.asarray(found[f"pyod_{name}_mixed"])

    whole = scores(slice(None))
    assert whole[:5].min() > whole[5:].max()
    np.testing.assert_allclose(scores([0, 7, 29]), whole[[0, 7, 29]], rtol=1e-9)
