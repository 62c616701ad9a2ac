"""What a training does at every step: rate, clipping, precision, masks; and what makes it anew."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fit import CPU, MODEL, OPTIONS, log, toy_data

from twinvae.config import TrainConfig
from twinvae.errors import StageError
from twinvae.models import build_model
from twinvae.training import Compute, SliceData, fit
from twinvae.training.checkpoint import Checkpoint
from twinvae.training.schedule import seeded

SHORT = OPTIONS.model_copy(update={"epochs": 2})
BF16 = Compute(torch.device("cpu"), bf16=True)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Learning rate and length of the whole gradient, at every step of every optimiser."""
    seen: list[dict[str, float]] = []
    plain = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *given: object) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        length = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        seen.append(
            {
                "rate": self.param_groups[0]["lr"],
                "length": length.item(),
                "parameters": sum(p.numel() for p in parameters),
            }
        )
        plain(self)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    return seen


def run(
    folder: Path,
    options: TrainConfig = SHORT,
    data: SliceData | None = None,
    compute: Compute = CPU,
    kind: str = "vae",
) -> dict:
    """Train; returns what trained.json says."""
    model = build_model(MODEL.model_copy(update={"kind": kind}), 0)
    fit(model, data or toy_data(), options, compute, seed=0, folder=folder, label="toy")
    return json.loads((folder / "trained.json").read_text())


def test_learning_rate_falls_with_every_step(tmp_path: Path, steps: list[dict]) -> None:
    run(tmp_path, SHORT.model_copy(update={"schedule": "cosine", "learning_rate": 0.5}))
    n = 2 * 5  # epochs, batches of 16 among 80 slices
    expected = [0.5 * (0.02 + 0.98 * (1 + math.cos(math.pi * k / n)) / 2) for k in range(n)]
    assert [step["rate"] for step in steps] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["vae", "adversarial_ae"])
def test_gradients_are_clipped_to_their_length(
    tmp_path: Path, steps: list[dict], kind: str
) -> None:
    run(tmp_path / "free", SHORT.model_copy(update={"clip_norm": 1e9}), kind=kind)
    free, bound = steps.copy(), min(step["length"] for step in steps) / 2
    steps.clear()
    run(tmp_path / "clipped", SHORT.model_copy(update={"clip_norm": bound}), kind=kind)
    assert len(steps) == len(free) == (10 if kind == "vae" else 20)
    assert free[0]["length"] > 2 * bound
    for step in steps[: 1 if kind == "vae" else 2]:  # later ones may be shorter of themselves
        assert step["length"] == pytest.approx(bound, rel=1e-3)
    assert all(step["length"] <= bound * 1.001 for step in steps)


@pytest.mark.parametrize("kind", ["vae", "adversarial_ae", "healing_unet"])
@pytest.mark.parametrize(
    ("compute", "expected"), [(BF16, torch.bfloat16), (CPU, torch.float32)], ids=["bf16", "fp32"]
)
def test_networks_train_and_are_watched_in_the_precision_asked_for(
    tmp_path: Path, kind: str, compute: Compute, expected: torch.dtype
) -> None:
    config = MODEL.model_copy(update={"kind": kind, "decoder_channels": (4,)})
    model = build_model(config, 0)
    seen: dict[str, set[tuple[bool, torch.dtype]]] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
            mine = seen.setdefault(name, set())
            layer.register_forward_hook(
                lambda _, __, out, mine=mine: mine.add((torch.is_grad_enabled(), out.dtype))
            )
    fit(model, toy_data(), SHORT, compute, seed=0, folder=tmp_path, label="toy")
    assert seen
    for name, dtypes in seen.items():
        assert {dtype for _, dtype in dtypes} == {expected}, name
        assert {learning for learning, _ in dtypes} == {True, False}, name


@pytest.mark.parametrize("masked", [True, False])
def test_validation_counts_the_pixels_that_training_counts(tmp_path: Path, masked: bool) -> None:
    options = SHORT.model_copy(update={"mask_background": masked})
    data, model = toy_data(), build_model(MODEL, 0)
    fit(model, data, options, CPU, seed=0, folder=tmp_path, label="toy")
    x, mask = data.batch(data.val, CPU.device), data.mask(data.val, CPU.device, brain=True)
    assert 0.1 < mask.float().mean() < 0.9
    with torch.inference_mode():  # 16 slices: all are watched, as one batch
        q = model.encode(x)
        z = q.sample(1, seeded(CPU.device, 0, -1))
        density = model.log_density(x, z)[0]
        counted = density * mask if masked else density
        expected = (counted.flatten(1).sum(1) - q.kl_to_prior()).mean().item()
    assert log(tmp_path)[-1]["val_elbo"] == pytest.approx(expected, rel=1e-5)


def _with(data: SliceData, name: str, row: int) -> SliceData:
    """``data`` with one number of one slice changed."""
    array = getattr(data, name).copy()
    array[(row, *[5] * (array.ndim - 1))] ^= 1
    return replace(data, **{name: array})


def _changes() -> Iterator[tuple[str, SliceData]]:
    data = toy_data()
    yield "a slice less", replace(data, train=data.train[:-1])
    yield "other slices, as many", replace(data, train=np.append(data.train[:-1], data.val[0]))
    yield "another order", replace(data, train=data.train[::-1].copy())
    yield "a validation slice less", replace(data, val=data.val[:-1])
    for row in (0, 1, 37, 79):
        yield f"a pixel of training slice {row}", _with(data, "images", row)
        yield f"a mask of training slice {row}", _with(data, "brain", row)
    yield "a pixel of a validation slice", _with(data, "images", 90)


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("what", "data"), list(_changes()), ids=_name)
def test_a_training_is_made_anew_when_anything_it_uses_has_changed(
    tmp_path: Path, what: str, data: SliceData
) -> None:
    options = SHORT.model_copy(update={"epochs": 1, "mask_background": True})
    first = run(tmp_path, options)
    assert run(tmp_path, options) == first
    assert run(tmp_path, options, data)["fingerprint"] != first["fingerprint"], what


def test_a_training_is_made_anew_when_a_condition_has_changed(tmp_path: Path) -> None:
    condition = np.arange(96) % 2
    options = SHORT.model_copy(update={"epochs": 1})
    data = replace(toy_data(), condition=condition)
    first = run(tmp_path, options, data, kind="conditional_vae")
    assert run(tmp_path, options, data, kind="conditional_vae") == first
    again = run(tmp_path, options, _with(data, "condition", 41), kind="conditional_vae")
    assert again["fingerprint"] != first["fingerprint"]


def test_a_training_cut_off_between_epochs_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = OPTIONS.model_copy(update={"epochs": 4})
    run(tmp_path / "whole", options)
    save = fit.__globals__["save_checkpoint"]

    def cut(folder: Path, model: object, optimisers: object, checkpoint: Checkpoint) -> None:
        save(folder, model, optimisers, checkpoint)
        if len(log(folder)) == 2:
            raise KeyboardInterrupt

    monkeypatch.setitem(fit.__globals__, "save_checkpoint", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", options)
    monkeypatch.setitem(fit.__globals__, "save_checkpoint", save)
    run(tmp_path / "cut", options)
    assert [row["epoch"] for row in log(tmp_path / "cut")] == [1, 2, 3, 4]
    whole, again = (tmp_path / name / "weights.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_objective_that_is_no_number_ends_the_training(tmp_path: Path, value: float) -> None:
    """Whichever term it comes from: here the likelihood alone is finite."""
    model = build_model(MODEL, 0)
    plain = model.loss
    model.loss = lambda *given, **named: plain(*given, **named)._replace(
        objective=plain(*given, **named).objective * value, kl=torch.tensor(value)
    )
    once = SHORT.model_copy(update={"epochs": 1, "batch_size": 80})  # the next step's would not be
    with pytest.raises(StageError, match="diverged in epoch 1: expected a finite loss"):
        fit(model, toy_data(), once, CPU, seed=0, folder=tmp_path, label="toy")
