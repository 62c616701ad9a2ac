"""Where training computes and in what precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twinvae.config import ComputeConfig, ModelConfig, load_config
from twinvae.errors import ConfigError
from twinvae.imaging.slabs import Slabs
from twinvae.models import build_model
from twinvae.models.contract import drawing
from twinvae.runs.folder import Run
from twinvae.training import Compute, SliceData, probe

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def data() -> SliceData:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 2**16, (12, 8, 8), dtype=np.uint16)
    images[0, 0, :3] = (0, 2**15, 2**16 - 1)  # where int16 and uint16 part
    return SliceData(images, (images > 0).astype(np.uint8), np.arange(12), np.arange(0))


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    torch.use_deterministic_algorithms(False)


def test_slices_kept_on_the_device_are_the_same_bits(data) -> None:
    rows = np.array([0, 7, 3])
    kept = data.on_device(CPU)
    assert kept.resident is not None
    assert torch.equal(kept.batch(rows, CPU), data.batch(rows, CPU))
    assert kept.batch(rows, CPU).max() == 1.0


def test_slabs_are_cut_from_the_store_as_before(data) -> None:
    rows = np.zeros((12, 2, 2), np.int64)
    slabs = SliceData(**{**vars(data), "slabs": Slabs(rows, np.zeros((12, 2), np.float32))})
    assert slabs.on_device(CPU) is slabs


def test_the_same_seed_gives_the_same_weights_and_leaves_every_generator_alone(monkeypatch) -> None:
    def touched(*_: object) -> None:
        raise AssertionError("a GPU's generator was reseeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)
    monkeypatch.setattr(torch.cuda, "manual_seed", touched)
    before = torch.random.get_rng_state()
    config = ModelConfig(image_size=16, encoder_channels=(4, 8), decoder_channels=(4,))
    first, second, other = (build_model(config, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_a_generator_draws_come_from_that_of_the_device(monkeypatch) -> None:
    own = torch.Generator()
    assert drawing(own, torch.device("cuda")) is own
    assert drawing(None, CPU) is torch.default_generator
    monkeypatch.setattr(torch.cuda, "default_generators", ("first", "second"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert drawing(None, torch.device("cuda", 0)) == "first"
    assert drawing(None, torch.device("cuda")) == "second"


def test_float32_is_float32_on_a_gpu_and_determinism_is_asked_for(monkeypatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Compute.resolve(ComputeConfig(device="cpu"))
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()
    Compute.resolve(ComputeConfig(device="cpu", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("speed", "chosen"), [(1.1, "fp32"), (1.5, "bf16")])
def test_auto_takes_the_precision_that_is_clearly_faster_and_a_run_keeps_it(
    speed, chosen, monkeypatch, tmp_path
) -> None:
    rates = {False: 1.0, True: speed}
    monkeypatch.setattr(probe, "_passes", lambda device, *, bf16: rates[bf16])
    config = load_config("demo", {"compute.precision": "auto", "compute.device": "cpu"})
    with pytest.raises(ConfigError, match="expected fp32 or bf16 by now, found auto"):
        Compute.resolve(config.compute)
    assert Run.create(config, tmp_path).config.compute.precision == chosen
    rates[True] = 2.6 - speed  # another machine would choose the other
    assert Run.create(config, tmp_path).config.compute.precision == chosen
    assert Run.open(tmp_path).config.compute.precision == chosen


def test_the_probe_counts_passes(monkeypatch) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 0.02)
    assert probe._passes(CPU, bf16=False) > 0
    assert probe._passes(CPU, bf16=True) > 0


@needs_gpu
def test_a_gpu_keeps_slices_and_trains_on_them(data) -> None:
    kept = data.on_device(torch.device("cuda"))
    rows = np.array([0, 7, 3])
    torch.testing.assert_close(kept.batch(rows, torch.device("cuda")).cpu(), data.batch(rows, CPU))
