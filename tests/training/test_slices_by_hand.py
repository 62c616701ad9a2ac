"""What augmentation changes and what it leaves, and whose labels are used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from twinvae.config import AugmentConfig, ComputeConfig
from twinvae.training import Compute
from twinvae.training.data import augment, conditioned_slices

NOTHING = AugmentConfig(flip=0, brightness=0, noise=0)


def images(n: int = 50) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05


def changed(options: AugmentConfig, mask: torch.Tensor | None = None) -> tuple:
    return augment(images(), mask, options, torch.Generator().manual_seed(1))


def test_nothing_asked_for_changes_nothing() -> None:
    mask = images() > 0.5
    noisy, target, same = changed(NOTHING, mask)
    assert torch.equal(noisy, images())
    assert torch.equal(target, images())
    assert torch.equal(same, mask)
    assert changed(NOTHING)[2] is None


@pytest.mark.parametrize(
    "one", [{"brightness": 0.1}, {"gamma": 0.2}, {"bias": 0.1}, {"turn_deg": 40}, {"stretch": 0.5},
            {"flip": 1}],
)  # fmt: skip
def test_each_change_is_made_alone_with_and_without_a_mask(one: dict) -> None:
    noisy, target, none = changed(NOTHING.model_copy(update=one))
    assert none is None
    assert torch.equal(noisy, target)
    assert not torch.equal(target, images())
    masked = changed(NOTHING.model_copy(update=one), images() > 0.5)
    assert torch.equal(masked[1], target)
    moves = not {"turn_deg", "stretch", "flip"}.isdisjoint(one)
    assert torch.equal(masked[2], images() > 0.5) is not moves


def test_every_slice_is_flipped_left_to_right_or_none() -> None:
    assert torch.equal(changed(NOTHING.model_copy(update={"flip": 1}))[1], images().flip(-1))
    assert torch.equal(changed(NOTHING)[1], images())


def test_gamma_is_drawn_evenly_on_both_sides_of_one() -> None:
    wide = images(3000)
    options = NOTHING.model_copy(update={"gamma": 0.4})
    _, target, _ = augment(wide, None, options, torch.Generator().manual_seed(1))
    power = (target.log() / wide.log()).flatten(1).median(1).values.log()
    assert power.min().item() == pytest.approx(-0.4, abs=0.01)
    assert power.max().item() == pytest.approx(0.4, abs=0.01)
    assert power.mean().item() == pytest.approx(0, abs=0.02)
    assert power.std().item() == pytest.approx(0.8 / 12**0.5, abs=0.01)


class Store:
    """Two labelled mixed training subjects, one in validation, one without a mask, one healthy."""

    def __init__(self) -> None:
        rows = [
            *[("mixed", "a", "mixed", "train", t) for t in (0, 5, 0)],
            *[("mixed", "b", "mixed", "train", t) for t in (0, 0, 9)],
            *[("mixed", "c", "mixed", "val", t) for t in (0, 1)],
            *[("mixed", "d", "mixed", "train", np.nan)] * 2,
            *[("ixi", "a", "healthy", "train", 0), ("ixi", "a", "healthy", "train", 0)],
        ]
        names = ["source", "subject", "role", "split", "tumour_px"]
        self.index = pd.DataFrame(rows, columns=names)
        self.images = np.zeros((len(rows), 4, 4), np.uint16)
        self.brain = np.zeros((len(rows), 4, 4), np.uint8)

    def select(self, role: str | None = None, split: str | None = None) -> np.ndarray:
        chosen = np.ones(len(self.index), bool)
        for column, value in (("role", role), ("split", split)):
            if value is not None:
                chosen &= (self.index[column] == value).to_numpy()
        return np.flatnonzero(chosen)


def test_tumour_free_slices_of_labelled_training_subjects_alone_change_their_condition() -> None:
    store = Store()
    plain = conditioned_slices(store, 0, seed=0)
    assert plain.condition.tolist() == [1] * 10 + [0, 0]
    both = conditioned_slices(store, 2, seed=0)
    assert both.condition.tolist() == [0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0]
    found = {tuple(conditioned_slices(store, 1, seed=k).condition.tolist()) for k in range(20)}
    assert found == {
        (0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0),
        (1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0),
    }
    assert plain.train.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert plain.val.tolist() == [6, 7]


def test_brightness_stops_at_white() -> None:
    options = NOTHING.model_copy(update={"brightness": 0.9})
    _, target, _ = changed(options)
    assert target.max() == 1
    assert ((target > 0) & (target < 1)).any()


@pytest.mark.parametrize(
    ("gpu", "asked", "given"),
    [(True, "auto", "cuda"), (True, "cpu", "cpu"), (True, "cuda", "cuda"), (False, "auto", "cpu"),
     (False, "cpu", "cpu")],
)  # fmt: skip
def test_the_device_is_the_one_asked_for_or_the_best_there_is(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, asked: str, given: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    before = torch.get_num_threads()
    options = ComputeConfig(device=asked, precision="bf16", threads=1)
    found = Compute.resolve(options)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    assert (found.device.type, found.bf16) == (given, True)
    assert not Compute.resolve(ComputeConfig(device="cpu", threads=before)).bf16
