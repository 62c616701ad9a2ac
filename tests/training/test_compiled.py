"""Training by compiled passes: it learns the same, under the same names, with its own stamp."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from test_fit import MODEL, log, toy_data

from twinvae.config import ComputeConfig, TrainConfig, load_config
from twinvae.errors import ConfigError
from twinvae.models import build_model
from twinvae.runs.folder import Run
from twinvae.training import Compute, fit
from twinvae.training.checkpoint import Checkpoint

EAGER = Compute(torch.device("cpu"), bf16=False)
COMPILED = Compute(torch.device("cpu"), bf16=False, compile=True)
OPTIONS = TrainConfig(epochs=2, batch_size=40, learning_rate=3e-3)  # 80 slices
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, about its own insides
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX") or "g++") is None, reason="needs a C++ compiler"
)


def train(
    folder: Path, compute: Compute, kind: str = "vae", options: TrainConfig = OPTIONS
) -> None:
    model = build_model(MODEL.model_copy(update={"kind": kind}), 0)
    fit(model, toy_data(), options, compute, seed=0, folder=folder, label="toy")


def names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return sorted(file.keys())


def assert_learned_alike(one: Path, other: Path) -> None:
    for first, second in zip(log(one), log(other), strict=True):
        for key in ("objective", "log_likelihood", "kl", "val_elbo"):
            assert second[key] == pytest.approx(first[key], rel=1e-3, abs=1e-3), key
    assert names(one / "weights.safetensors") == names(other / "weights.safetensors")


@needs_compiler
def test_compiled_passes_learn_what_others_learn_and_go_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.utils import counters
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(config, "compile_threads", 1)  # starts no processes
    train(tmp_path / "eager", EAGER)
    counters.clear()
    train(tmp_path / "whole", COMPILED)
    assert counters["stats"]["unique_graphs"] == 2  # encode and decode
    assert_learned_alike(tmp_path / "eager", tmp_path / "whole")
    save = fit.__globals__["save_checkpoint"]

    def cut(folder: Path, model: object, optimisers: object, checkpoint: Checkpoint) -> None:
        save(folder, model, optimisers, checkpoint)
        if checkpoint.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(fit.__globals__, "save_checkpoint", cut)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", COMPILED)
    assert not [name for name in names(tmp_path / "cut/checkpoint.safetensors") if "_mod" in name]
    train(tmp_path / "cut", COMPILED)
    whole, cut_off = ((tmp_path / n / "weights.safetensors").read_bytes() for n in ("whole", "cut"))
    assert whole == cut_off


@pytest.mark.parametrize("kind", ["adversarial_ae", "healing_unet"])
def test_passes_are_seen_whole_and_batches_of_two_sizes_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from torch._dynamo.utils import counters

    # What comes before the C++ compiler, which would take minutes.
    monkeypatch.setenv("CXX", sys.executable)  # is not called
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    options = OPTIONS.model_copy(update={"batch_size": 32})  # 80 slices: 32, 32, 16
    train(tmp_path / "eager", EAGER, kind, options)
    counters.clear()
    train(tmp_path / "compiled", COMPILED, kind, options)
    assert counters["stats"]["unique_graphs"] >= 2
    assert not counters["graph_break"]
    assert_learned_alike(tmp_path / "eager", tmp_path / "compiled")


def test_a_compiled_training_is_another_and_its_scores_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # is not called
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    short = OPTIONS.model_copy(update={"epochs": 1})
    stamps = []
    for compute in (EAGER, COMPILED):
        train(tmp_path / "model", compute, options=short)
        stamps.append((tmp_path / "model" / "trained.json").read_text())
    assert stamps[0] != stamps[1]
    runs = [
        Run(tmp_path / "run", load_config("demo", {"compute.compile": how}))
        for how in (True, False)
    ]
    assert runs[0].fingerprint("train") != runs[1].fingerprint("train")
    assert runs[0].fingerprint("score") == runs[1].fingerprint("score")


def test_without_a_compiler_training_is_refused_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert Compute.resolve(ComputeConfig(device="cpu", compile=True)).compile
    with pytest.raises(ConfigError, match=r"compute\.compile: .* found no no-such-compiler"):
        train(tmp_path, COMPILED)
