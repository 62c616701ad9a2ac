"""Fitted scores: what they learn, from whom, and that detection replays it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from test_scores import FITTED, MODELS, NET, SIDE, batch, brains

from twinvae.config import ComputeConfig, ScoringConfig
from twinvae.errors import CalibrationError, DataError
from twinvae.scoring import (
    SCORES,
    read_fitted,
    require_fitted,
    score_and_fit,
    write_fitted,
)
from twinvae.scoring.batch import moved
from twinvae.scoring.latent import learn_difference as learn
from twinvae.training import Compute

NAMES = ("latent_mahalanobis", "latent_mahalanobis_diagonal", "latent_l2_centred")
CPU = Compute.resolve(ComputeConfig(device="cpu", threads=1))


class Slices:
    """Healthy validation slices of three subjects, and mixed test slices of one."""

    mirror = None

    def __init__(self, seed: int = 0, healthy_subjects: int = 3) -> None:
        x, brain = brains(20, seed=seed)
        self.images = (x[:, 0] * 65535).round().numpy().astype(np.uint16)
        self.brain = brain[:, 0].numpy().astype(np.uint8)
        healthy = np.arange(20) < 15
        self.index = pd.DataFrame(
            {
                "subject": [f"h{i % healthy_subjects}" if i < 15 else "m" for i in range(20)],
                "source": np.where(healthy, "h", "m"),
                "role": np.where(healthy, "healthy", "mixed"),
                "split": np.where(healthy, "val", "test"),
                "slice": range(20), "position": 0.5, "brain_px": 100, "tumour_px": 0,
                "spacing_mm": 1.0, "pixel_mm": 3.0,
            }
        )  # fmt: skip


def scored(slices: Slices, batch_size: int = 7) -> tuple[pd.DataFrame, dict]:
    scores = [SCORES[name] for name in (*NAMES, "latent_l2")]
    options = ScoringConfig(batch_size=batch_size)
    return score_and_fit(slices, np.arange(20), MODELS, scores, options, CPU)


def differences(slices: Slices) -> np.ndarray:
    x = torch.from_numpy(slices.images.astype(np.float32) / 65535).unsqueeze(1)
    with torch.no_grad():
        return (
            MODELS.mixed.encode(x).mean - MODELS.mixed.encode(MODELS.healthy.reconstruct(x)).mean
        ).double().numpy()  # fmt: skip


def by_hand(seen: np.ndarray, others: np.ndarray) -> dict[str, list[float]]:
    """The three scores of the rows ``seen``, fitted on ``others``, with scikit-learn and scipy."""
    fit = LedoitWolf().fit(others)
    inverse = np.linalg.inv(fit.covariance_)
    mean, spread = others.mean(0), others.std(0)
    return {
        "latent_mahalanobis": [mahalanobis(d, mean, inverse) for d in seen],
        "latent_mahalanobis_diagonal": [np.linalg.norm((d - mean) / spread) for d in seen],
        "latent_l2_centred": [np.linalg.norm(d - mean) for d in seen],
    }


def test_scores_are_those_of_scikit_learn_and_scipy() -> None:
    slices = Slices()
    table, _ = scored(slices)
    seen = differences(slices)
    for name, values in by_hand(seen[15:], seen[:15]).items():
        np.testing.assert_allclose(table[name][15:], values, rtol=2e-3, err_msg=name)


def test_healthy_validation_subjects_are_scored_by_a_fit_without_them() -> None:
    slices = Slices()
    table, _ = scored(slices)
    seen = differences(slices)
    for who in range(3):
        mine = np.arange(15) % 3 == who
        for name, values in by_hand(seen[:15][mine], seen[:15][~mine]).items():
            np.testing.assert_allclose(table[name][:15][mine], values, rtol=2e-3, err_msg=name)


def test_many_subjects_are_left_out_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinvae.scoring.fitted._GROUPS", 2)
    slices = Slices()
    table, _ = scored(slices)
    seen = differences(slices)
    for together in ((0, 2), (1,)):  # the first subject and the third, then the second
        mine = np.isin(np.arange(15) % 3, together)
        for name, values in by_hand(seen[:15][mine], seen[:15][~mine]).items():
            np.testing.assert_allclose(table[name][:15][mine], values, rtol=2e-3, err_msg=name)


def test_only_subject_is_scored_by_its_own_fit() -> None:
    slices = Slices(healthy_subjects=1)
    table, _ = scored(slices)
    seen = differences(slices)
    for name, values in by_hand(seen, seen[:15]).items():
        np.testing.assert_allclose(table[name], values, rtol=2e-3, err_msg=name)


def test_nothing_but_healthy_validation_slices_is_looked_at() -> None:
    one, other = Slices(), Slices()
    other.images[15:] = other.images[15:][::-1] // 2
    for name, array in scored(one)[1]["latent_difference"].items():
        assert torch.equal(array, scored(other)[1]["latent_difference"][name]), name


def test_batch_size_does_not_matter() -> None:
    a, b = scored(Slices(), 3)[0], scored(Slices(), 20)[0]
    np.testing.assert_allclose(a[list(NAMES)], b[list(NAMES)], rtol=1e-4)


def test_one_slice_and_identical_slices_still_give_finite_scores() -> None:
    for rows in (np.ones((1, 6)), np.ones((9, 6))):
        learned = learn(rows)
        assert all(np.isfinite(np.asarray(a, np.float32)).all() for a in learned.values())


def test_what_was_learned_reads_back_and_detects_alike(tmp_path: Path) -> None:
    path = tmp_path / "fitted.safetensors"
    write_fitted(path, FITTED)
    again = moved(read_fitted(path), torch.device("cpu"))
    x, brain = brains()
    for name in NAMES:
        first, second = batch(x, brain), batch(x, brain)
        first.fitted, second.fitted = FITTED, again
        with torch.no_grad():
            assert torch.equal(SCORES[name].compute(first), SCORES[name].compute(second))
    write_fitted(path, {})
    assert not path.exists()
    assert read_fitted(path) == {}
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match=r"fitted\.safetensors: expected safetensors"):
        read_fitted(path)


def test_missing_fit_and_missing_slices_are_named() -> None:
    with pytest.raises(DataError, match=r"score latent_l2_centred learned .*found nothing"):
        require_fitted([SCORES["latent_l2"], SCORES["latent_l2_centred"]], {}, "bundle")
    require_fitted([SCORES["latent_l2"]], {}, "bundle")
    slices = Slices()
    slices.index["split"] = "test"
    with pytest.raises(CalibrationError, match="latent_mahalanobis: expected healthy validation"):
        scored(slices)
    assert NET.image_size == SIDE
