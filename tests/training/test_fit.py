"""Training: it learns, repeats, and survives being killed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from twinvae.config import AugmentConfig, ComputeConfig, ModelConfig, TrainConfig
from twinvae.errors import ConfigError, DataError, StageError
from twinvae.models import build_model
from twinvae.training import Compute, SliceData, fit
from twinvae.training.data import augment
from twinvae.training.schedule import kl_weight, learning_rate

MODEL = ModelConfig(
    image_size=16, encoder_channels=(4, 8), decoder_channels=(4,), latent_size=6, variance="scalar"
)
OPTIONS = TrainConfig(epochs=6, batch_size=16, learning_rate=3e-3, kl_ramp_epochs=2)
CPU = Compute.resolve(ComputeConfig(device="cpu", threads=1))


def toy_data(n: int = 96) -> SliceData:
    """Discs of random place and radius."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    centre, radius = rng.uniform(5, 10, (n, 2, 1, 1)), rng.uniform(3, 6, (n, 1, 1))
    disc = (y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < radius**2
    images = (disc * 45000 + 6000).astype(np.uint16)
    return SliceData(images, disc.astype(np.uint8), np.arange(n - 16), np.arange(n - 16, n))


def train(
    folder: Path, options: TrainConfig = OPTIONS, seed: int = 0, kind: str = "vae"
) -> dict[str, torch.Tensor]:
    model = build_model(MODEL.model_copy(update={"kind": kind}), seed)
    fitted = fit(model, toy_data(), options, CPU, seed=seed, folder=folder, label="toy")
    return fitted.state_dict()


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_loss_falls_and_the_log_tells_every_epoch(tmp_path) -> None:
    train(tmp_path)
    rows = log(tmp_path)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["objective"] < rows[0]["objective"] - 50
    assert rows[-1]["val_elbo"] > rows[0]["val_elbo"] + 50
    for row in rows:
        assert row["elbo"] == pytest.approx(row["log_likelihood"] - row["kl"])
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_adversary_learns_beside_the_model_and_keeps_its_own_moments(tmp_path) -> None:
    start = build_model(MODEL.model_copy(update={"kind": "adversarial_ae"}), 0).state_dict()
    end = train(tmp_path, kind="adversarial_ae")
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved == set(start)
    rows = log(tmp_path)
    assert rows[-1]["log_likelihood"] > rows[0]["log_likelihood"] + 50
    assert rows[-1]["kl"] > 0


def test_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = train(tmp_path / "a")
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(2)
    second, other = train(tmp_path / "b"), train(tmp_path / "c", seed=1)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_finished_training_is_loaded_not_repeated(tmp_path) -> None:
    first = train(tmp_path)
    stamp = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    again = train(tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == stamp
    assert all(torch.equal(first[k], again[k]) for k in first)
    train(tmp_path, OPTIONS.model_copy(update={"learning_rate": 1e-3}))
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns != stamp


_SCRIPT = """
import signal, sys; sys.path.insert(0, {tests!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
import time
from pathlib import Path
from training.test_fit import OPTIONS, train
from twinvae.training import fit
save = fit.__globals__["save_checkpoint"]
# Slow enough to be killed in time, however busy the machine is.
fit.__globals__["save_checkpoint"] = lambda *given: (save(*given), time.sleep(0.05))
train(Path({folder!r}), OPTIONS.model_copy(update=dict(epochs=40)), kind={kind!r})
"""


def _start(folder: Path, kind: str) -> subprocess.Popen:
    tests = str(Path(__file__).resolve().parents[1])
    script = _SCRIPT.format(tests=tests, folder=str(folder), kind=kind)
    return subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": "0"}
    )


@pytest.mark.parametrize(
    ("sig", "kind"),
    [
        (signal.SIGKILL, "vae"),
        (signal.SIGINT, "vae"),
        (signal.SIGKILL, "constrained_adversarial_ae"),
    ],
)
def test_killed_training_resumes_to_bit_identical_weights(tmp_path, sig, kind) -> None:
    whole = tmp_path / "whole"
    assert _start(whole, kind).wait() == 0
    cut = tmp_path / "cut"
    process = _start(cut, kind)
    deadline = time.monotonic() + 60
    while not (cut / "log.jsonl").exists() or len(log(cut)) < 3:
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(sig)
    assert process.wait() != 0
    assert not (cut / "weights.safetensors").exists()
    before = len(log(cut))
    assert 3 <= before < 40

    assert _start(cut, kind).wait() == 0
    assert (cut / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()
    strip = [{k: v for k, v in r.items() if k != "seconds"} for r in log(cut)]
    assert strip == [{k: v for k, v in r.items() if k != "seconds"} for r in log(whole)]


def test_checkpoint_of_another_configuration_is_not_resumed(tmp_path) -> None:
    with pytest.raises(StageError, match="diverged"):
        train(tmp_path, OPTIONS.model_copy(update={"learning_rate": 1e30}))
    other = OPTIONS.model_copy(update={"epochs": 2})
    fresh = train(tmp_path / "fresh", other)
    resumed = train(tmp_path, other)
    assert all(torch.equal(fresh[k], resumed[k]) for k in fresh)


def test_damaged_checkpoint_is_named(tmp_path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"checkpoint\.safetensors: expected a checkpoint"):
        train(tmp_path)


def test_nothing_to_train_on_is_an_error(tmp_path) -> None:
    empty = np.zeros((0, 16, 16), np.uint16)
    data = SliceData(empty, empty.astype(np.uint8), np.arange(0), np.arange(0))
    with pytest.raises(DataError, match="toy: expected training slices, found none"):
        fit(build_model(MODEL, 0), data, OPTIONS, CPU, seed=0, folder=tmp_path, label="toy")


def test_bf16_learns_what_fp32_learns(tmp_path) -> None:
    bf16 = Compute.resolve(ComputeConfig(device="cpu", threads=1, precision="bf16"))
    for name, compute in (("fp32", CPU), ("bf16", bf16)):
        model = build_model(MODEL, 0)
        fit(model, toy_data(), OPTIONS, compute, seed=0, folder=tmp_path / name, label=name)
    fp32, half = (log(tmp_path / name)[-1]["elbo"] for name in ("fp32", "bf16"))
    assert half == pytest.approx(fp32, rel=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="expected a CUDA GPU"):
        Compute.resolve(ComputeConfig(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_learns_what_the_cpu_learns(tmp_path) -> None:
    cuda = Compute.resolve(ComputeConfig(device="cuda"))
    for name, compute in (("cpu", CPU), ("cuda", cuda)):
        model = build_model(MODEL, 0)
        fit(model, toy_data(), OPTIONS, compute, seed=0, folder=tmp_path / name, label=name)
    cpu, gpu = (log(tmp_path / name)[-1]["elbo"] for name in ("cpu", "cuda"))
    assert gpu == pytest.approx(cpu, rel=0.05)


def _slices() -> torch.Tensor:
    return torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.8


def test_noise_touches_the_input_alone() -> None:
    options = AugmentConfig(flip=0, brightness=0, noise=0.05)
    noisy, target, _ = augment(_slices(), None, options, torch.Generator().manual_seed(1))
    assert torch.equal(target, _slices())
    assert (noisy - target).std().item() == pytest.approx(0.05, rel=0.02)


def test_flip_and_brightness_change_input_and_target_alike() -> None:
    options = AugmentConfig(flip=0.5, brightness=0, noise=0)
    noisy, target, _ = augment(_slices(), None, options, torch.Generator().manual_seed(1))
    assert torch.equal(noisy, target)
    flipped = (target == _slices().flip(-1)).flatten(1).all(1)
    kept = (target == _slices()).flatten(1).all(1)
    assert (flipped | kept).all()
    assert 0.4 < flipped.float().mean() < 0.6

    options = AugmentConfig(flip=0, brightness=0.1, noise=0)
    _, target, _ = augment(_slices(), None, options, torch.Generator().manual_seed(1))
    factor = (target / _slices()).flatten(1)
    assert factor.std(1).max() < 1e-5
    assert factor.min() >= 0.9
    assert factor.max() <= 1.1
    assert factor.mean(1).std() == pytest.approx(0.2 / 12**0.5, rel=0.15)


def test_mask_flips_with_its_slice() -> None:
    mask = _slices() > 0.4
    options = AugmentConfig(flip=0.5, brightness=0, noise=0.01)
    _, target, flipped = augment(_slices(), mask, options, torch.Generator().manual_seed(1))
    assert flipped is not None
    assert torch.equal(flipped, target > 0.4)


def test_turns_and_stretches_move_slice_and_mask_alike_and_leave_no_seam() -> None:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    disc = ((torch.hypot((y - 15.5) / 1.3, x - 15.5) < 9) * 0.6).expand(200, 1, 32, 32)
    options = AugmentConfig(flip=0, brightness=0, noise=0, turn_deg=20, stretch=0.2)
    noisy, target, mask = augment(disc, disc > 0, options, torch.Generator().manual_seed(1))
    assert mask is not None
    assert torch.equal(noisy, target)
    assert ((target > 0) == mask).float().mean() > 0.99
    assert target[target > 0].min() > 0.25  # at the rim at least half of it is brain
    area = mask.flatten(1).sum(1) / (disc[0] > 0).sum()
    assert 0.6 < area.min() < 0.8
    assert 1.25 < area.max() < 1.6
    height = mask.any(3).sum(2)[:, 0]
    assert height.unique().numel() > 4


def test_gamma_and_bias_keep_the_range_and_the_background() -> None:
    x = _slices() * (torch.arange(8) > 1)
    options = AugmentConfig(flip=0, brightness=0, noise=0, gamma=0.5)
    _, target, _ = augment(x, None, options, torch.Generator().manual_seed(1))
    power = (target.log() / x.log())[..., 2:].flatten(1)
    assert power.std(1).max() < 1e-3
    assert power.min() >= 0.99 * math.exp(-0.5)
    assert power.max() <= 1.01 * math.exp(0.5)
    assert power.mean(1).log().std() == pytest.approx(1 / 12**0.5, rel=0.15)
    options = AugmentConfig(flip=0, brightness=0, noise=0, bias=0.2)
    _, target, _ = augment(x, None, options, torch.Generator().manual_seed(1))
    assert (target[..., :2] == 0).all()
    assert 0 <= target.min() < target.max() <= 1
    ratio = (target / x)[..., 2:]
    assert ratio.std() == pytest.approx(0.2, rel=0.4)
    step = ratio[..., 1:] - ratio[..., :-1]
    assert step.std() < 0.8 * ratio.std()  # white noise would give √2


def test_masked_training_leaves_the_background_alone(tmp_path) -> None:
    masked = OPTIONS.model_copy(update={"mask_background": True, "epochs": 12})
    whole = OPTIONS.model_copy(update={"epochs": 12})
    data, errors = toy_data(), {}
    for name, options in (("masked", masked), ("whole", whole)):
        model = build_model(MODEL, 0)
        fit(model, data, options, CPU, seed=0, folder=tmp_path / name, label=name)
        x = data.batch(data.val, CPU.device)
        inside = data.mask(data.val, CPU.device, brain=True)
        with torch.inference_mode():
            error = (model.reconstruct(x) - x).square()
        errors[name] = (error[inside].mean().item(), error[~inside].mean().item())
    assert errors["masked"][0] <= errors["whole"][0] * 1.2
    assert errors["masked"][1] > 3 * errors["whole"][1]


def test_kl_weight_ramps_and_learning_rate_falls() -> None:
    options = TrainConfig(kl_ramp_epochs=5, kl_weight=2)
    assert [kl_weight(options, t) for t in (0, 2.5, 5, 100)] == [0, 1, 2, 2]
    assert kl_weight(TrainConfig(kl_ramp_epochs=0), 0) == 1
    cosine = TrainConfig(schedule="cosine", learning_rate=1)
    rates = [learning_rate(cosine, t) for t in (0, 0.5, 1)]
    assert rates == pytest.approx([1, 0.51, 0.02])
    assert learning_rate(TrainConfig(), 0.9) == 1e-4
