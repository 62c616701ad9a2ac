"""Adapting to the mixed source: what is calm, what counts, and where training starts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import TINY, tiny_config
from twinvae.config import RunConfig
from twinvae.errors import ConfigError
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.models import build_model, halve_weights, load_model, save_model
from twinvae.runs.folder import Run
from twinvae.training import check_networks, train_twins
from twinvae.training.adapt import _far_from

SLAB = TINY["models.healthy"] | {
    "kind": "slab_unet", "encoder_channels": [8, 16], "decoder_channels": [8],
}  # fmt: skip


def config(**training: Any) -> RunConfig:
    changes = {f"training__healthy__{name}": value for name, value in training.items()}
    return tiny_config(
        models__healthy=SLAB, training__healthy__epochs=1, training__mixed__epochs=1, **changes
    )


@pytest.fixture(scope="module")
def store(tiny_run: Run) -> SliceStore:
    return SliceStore.open(tiny_run.slices)


@pytest.fixture(scope="module")
def models(store: SliceStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted")
    train_twins(config(adapt={"rounds": 2, "epochs": 1}), store, folder)
    return folder


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in load_model(folder).parameters()])


def test_each_round_goes_on_from_the_one_before(models: Path) -> None:
    healthy = models / "healthy"
    rounds = [weights(healthy / "round-0"), weights(healthy / "round-1"), weights(healthy)]
    moved = [(a - b).abs().mean() for a, b in pairwise(rounds)]
    far = (weights(healthy) - torch.cat(
        [p.detach().flatten() for p in build_model(config().models.healthy, 5).parameters()]
    )).abs().mean()  # fmt: skip
    assert all(0 < m < 0.5 * far for m in moved)


def test_only_mixed_training_slices_can_be_other_than_calm(models: Path, store: SliceStore) -> None:
    calm = np.load(models / "healthy" / "round-1" / "calm.npy")
    assert calm.shape == store.images.shape
    others = np.setdiff1d(np.arange(len(store)), store.select("mixed", "train"))
    assert calm[others].all()


def test_calm_is_away_from_what_looks_like_a_lesion() -> None:
    lesion = torch.zeros((1, 1, 64, 64))
    lesion[..., 30:34, 30:34] = 1.0
    calm = _far_from(lesion, 0.15, 2.0)[0, 0]
    assert not calm[28:36, 28:36].any()
    assert calm[:22].all()
    assert calm[:, :22].all()
    assert _far_from(0.1 * lesion, 0.15, 2.0).all()


def test_what_is_not_calm_leaves_the_student_alone(store: SliceStore, tmp_path: Path) -> None:
    """With nothing calm, mixed slices teach nothing: any other mixed slices give these weights."""
    adapt = {"rounds": 1, "epochs": 1, "calm": 1e-9}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "twinvae.training.adapt._far_from", lambda lesion, *_: torch.zeros_like(lesion)
        )
        train_twins(config(adapt=adapt), store, tmp_path / "a")
        rows = store.select("mixed", "train")
        images = np.array(store.images)
        images[rows] = np.where(images[rows] > 0, np.maximum(images[rows] // 2, 1), 0)
        other = SliceStore(store.folder, images, *(
            getattr(store, name) for name in ("brain", "tumour", "index", "skipped")
        ))  # fmt: skip
        train_twins(config(adapt=adapt), other, tmp_path / "b")
    a, b = (weights(tmp_path / name / "healthy") for name in "ab")
    first = weights(tmp_path / "a" / "healthy" / "round-0")
    assert not torch.equal(a, first)
    # Healthy slices share batches with mixed ones, whose lesions are drawn from their own signal.
    assert (a - b).abs().mean() < 0.05 * (a - first).abs().mean()


def test_training_can_start_from_given_weights(store: SliceStore, tmp_path: Path) -> None:
    given = build_model(config().models.healthy, seed=9)
    save_model(given, tmp_path / "given")
    train_twins(config(start=tmp_path / "given", data="none"), store, tmp_path / "kept")
    expected = torch.cat([p.detach().flatten() for p in given.parameters()])
    torch.testing.assert_close(weights(tmp_path / "kept" / "healthy"), expected, rtol=0, atol=0)
    train_twins(config(start=tmp_path / "given"), store, tmp_path / "on")
    train_twins(config(), store, tmp_path / "afresh")
    prints = {
        read_json(tmp_path / name / "healthy" / "trained.json")["fingerprint"]
        for name in ("on", "afresh")
    }
    assert len(prints) == 2
    on, afresh = (weights(tmp_path / name / "healthy") for name in ("on", "afresh"))
    assert (on - expected).abs().mean() < (afresh - expected).abs().mean()


def test_weights_of_another_network_are_refused(store: SliceStore, tmp_path: Path) -> None:
    wider = config().models.healthy.model_copy(update={"encoder_channels": (8, 24)})
    save_model(build_model(wider, 0), tmp_path / "wider")
    with pytest.raises(ConfigError, match=r"expected a model of kind slab_unet"):
        train_twins(config(start=tmp_path / "wider"), store, tmp_path / "run")


@pytest.mark.parametrize("role", ["healthy", "mixed"])
def test_only_a_healthy_model_that_looks_for_lesions_can_be_adapted(role: str) -> None:
    kinds = {} if role == "healthy" else {"models__healthy": SLAB}
    wrong = tiny_config(**kinds, **{f"training__{role}__adapt": {"rounds": 1}})
    with pytest.raises(ConfigError, match=rf"training\.{role}\.adapt: expected a healthy model"):
        check_networks(wrong)


def test_weights_can_be_rounded_so_that_half_the_room_is_enough(
    store: SliceStore, tmp_path: Path
) -> None:
    train_twins(config(half=True), store, tmp_path)
    folder = tmp_path / "healthy"
    rounded = weights(folder)
    assert torch.equal(rounded, rounded.half().float())
    size = (folder / "weights.safetensors").stat().st_size
    halve_weights(folder / "weights.safetensors")
    assert torch.equal(weights(folder), rounded)
    assert (folder / "weights.safetensors").stat().st_size < 0.6 * size
    mixed = tmp_path / "mixed" / "weights.safetensors"
    before = weights(tmp_path / "mixed")
    halve_weights(mixed)
    assert torch.equal(weights(tmp_path / "mixed"), before)
