"""Training logs for TensorBoard: asked for, beside the log, and never in anybody's way."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import tiny_config
from twinvae.config import ModelConfig, TrainConfig
from twinvae.errors import ConfigError, OutputError
from twinvae.models import build_model
from twinvae.outputs import MARKER, own_files
from twinvae.training import Compute, SliceData, check_networks, event_files, fit
from twinvae.training.event_files import FOLDER, forget_events, keep_events, watched

MODEL = ModelConfig(image_size=16, encoder_channels=(4,), decoder_channels=(), latent_size=2)
OPTIONS = TrainConfig(epochs=2, batch_size=16)
CPU = Compute(torch.device("cpu"), bf16=False)


class Writer:
    """Writes a line a point, under a name of its own."""

    def __init__(self, log_dir: str) -> None:
        here = Path(log_dir)
        self.file = (here / f"events.out.tfevents.{len(list(here.iterdir()))}").open("w")

    def add_scalar(self, name: str, value: float, epoch: int) -> None:
        print(name, epoch, value, file=self.file)

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)


def trained(folder: Path, log: str = "tensorboard", epochs: int = 2) -> list[dict]:
    """A model trained in ``folder``; the lines of its log."""
    images = np.random.default_rng(0).integers(0, 65535, (40, 16, 16)).astype(np.uint16)
    data = SliceData(images, np.ones(images.shape, np.uint8), np.arange(32), np.arange(32, 40))
    options = OPTIONS.model_copy(update={"epochs": epochs})
    model = build_model(MODEL, 0)
    fit(model, data, options, replace(CPU, log=log), seed=0, folder=folder, label="toy")
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("fake")
def test_event_files_hold_the_log_and_are_twinvaes_own(tmp_path: Path) -> None:
    rows = trained(tmp_path)
    (file,) = own_files(tmp_path / FOLDER)
    points = {tuple(line.split()) for line in file.read_text().splitlines()}
    assert points == {
        (name, str(row["epoch"]), str(value))
        for row in rows
        for name, value in row.items()
        if name != "epoch"
    }
    again = trained(tmp_path, epochs=3)  # another training in the same folder
    (file,) = own_files(tmp_path / FOLDER)
    assert len(file.read_text().splitlines()) == 3 * (len(again[0]) - 1)
    assert {p.name for p in (tmp_path / FOLDER).iterdir()} == {file.name, MARKER}
    forget_events(tmp_path)
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.usefixtures("fake")
def test_a_finished_training_gets_them_and_what_others_put_there_stays(tmp_path: Path) -> None:
    rows = trained(tmp_path, log="none")
    assert not (tmp_path / FOLDER).exists()
    keep_events(tmp_path, "none")
    assert not (tmp_path / FOLDER).exists()
    keep_events(tmp_path, "tensorboard")
    (file,) = own_files(tmp_path / FOLDER)
    assert len(file.read_text().splitlines()) == len(rows) * (len(rows[0]) - 1)
    mine = tmp_path / FOLDER / "events.out.tfevents.mine"
    mine.write_text("mine")
    with watched(tmp_path, [], "tensorboard"):
        pass
    forget_events(tmp_path)
    assert mine.read_text() == "mine"
    (tmp_path / "other" / FOLDER).mkdir(parents=True)
    (tmp_path / "other" / FOLDER / "mine").write_text("mine")
    with pytest.raises(OutputError, match="found mine"):
        trained(tmp_path / "other")


def test_it_is_said_how_to_install_it_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_files, "find_spec", lambda name: None)
    check_networks(tiny_config())
    with pytest.raises(ConfigError, match=r'compute\.log: .*pip install "twinvae\[tensorboard\]"'):
        check_networks(tiny_config(compute__log="tensorboard"))


@pytest.mark.filterwarnings("default")  # of its own imports
def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason='needs pip install "twinvae[tensorboard]"',
    )
    rows = trained(tmp_path)
    read = accumulator.EventAccumulator(str(tmp_path / FOLDER)).Reload()
    for name in set(rows[0]) - {"epoch"}:
        found = read.Scalars(name)
        assert [point.step for point in found] == [1, 2]
        assert [point.value for point in found] == pytest.approx([row[name] for row in rows])
