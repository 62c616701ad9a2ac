"""The train stage: which slices each model sees, and the one that serves as both."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import TINY, tiny_config
from twinvae.config import RunConfig, TrainConfig
from twinvae.detection.bundle import read_bundle
from twinvae.errors import ConfigError
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.models import VAE, build_model, load_model
from twinvae.runs.folder import Run
from twinvae.runs.stages import run_stages
from twinvae.scoring import Models, read_scores
from twinvae.training import Compute, check_networks, train_twins
from twinvae.training.data import conditioned_slices, role_slices, with_reconstructions

CPU = Compute(torch.device("cpu"), bf16=False)


def both(kind: str, **changes: Any) -> RunConfig:
    network = TINY["models.healthy"] | {"kind": kind} | changes
    return tiny_config(
        models__healthy=network,
        models__mixed=network,
        training__healthy__epochs=2,
        training__mixed__epochs=2,
        scoring__scores=["latent_l2", "image_l2", "residual_local"],
    )


def mixed_data(data: str) -> RunConfig:
    return tiny_config(
        training__healthy__epochs=1, training__mixed__epochs=1, training__mixed__data=data
    )


@pytest.fixture(scope="module")
def store(tiny_run: Run) -> SliceStore:
    return SliceStore.open(tiny_run.slices)


@pytest.mark.parametrize(
    ("data", "roles"),
    [("own", {"mixed"}), ("mixed", {"mixed"}), ("healthy", {"healthy"}),
     ("pooled", {"healthy", "mixed"})],
)  # fmt: skip
def test_rows_are_those_of_the_roles_asked_for(store: SliceStore, data: str, roles: set) -> None:
    slices = role_slices(store, "mixed", TrainConfig(data=data))
    for split, rows in (("train", slices.train), ("val", slices.val)):
        wanted = store.index[store.index["role"].isin(roles) & (store.index["split"] == split)]
        assert rows.tolist() == wanted.index.tolist()


def test_reconstructions_of_the_mixed_training_slices_are_added(store: SliceStore) -> None:
    healthy = build_model(tiny_config().models.healthy, 0)
    slices = with_reconstructions(store, healthy, CPU)
    rows = store.select("mixed", "train")
    n = len(rows)
    assert slices.train.tolist() == list(range(2 * n))
    assert np.array_equal(slices.images[:n], store.images[rows])
    x = torch.from_numpy(store.images[rows].astype(np.float32) / 65535)[:, None]
    with torch.inference_mode():
        expected = healthy.reconstruct(x)[:, 0].numpy()
    assert np.abs(slices.images[n : 2 * n] / 65535 - expected).max() < 1e-4
    assert np.array_equal(slices.images[slices.val], store.images[store.select("mixed", "val")])
    assert np.array_equal(slices.brain[n : 2 * n], store.brain[rows])


def test_no_training_keeps_the_random_weights(store: SliceStore, tmp_path) -> None:
    config = mixed_data("none")
    train_twins(config, store, tmp_path)
    fresh = build_model(config.models.mixed, 1).state_dict()
    stored = load_model(tmp_path / "mixed").state_dict()
    assert all(torch.equal(fresh[name], stored[name]) for name in fresh)
    assert read_json(tmp_path / "mixed" / "trained.json")["seconds"] == 0


@pytest.mark.parametrize("data", ["pooled", "mixed_and_healthy_reconstructions"])
def test_variants_train_other_weights(store: SliceStore, tmp_path, data: str) -> None:
    train_twins(mixed_data("own"), store, tmp_path / "own")
    train_twins(mixed_data(data), store, tmp_path / data)
    own, other = (load_model(tmp_path / n / "mixed").state_dict() for n in ("own", data))
    assert not torch.equal(own["expand.weight"], other["expand.weight"])
    own, other = (load_model(tmp_path / n / "healthy").state_dict() for n in ("own", data))
    assert torch.equal(own["expand.weight"], other["expand.weight"])


def test_conditional_model_is_trained_once_and_serves_as_both(tiny_run: Run, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    run = Run.create(both("conditional_vae"), folder)
    run_stages(run)
    assert sorted(p.name for p in run.models.iterdir()) == ["shared"]
    assert [p.name for p in (run.bundle / "models").iterdir()] == ["shared"]
    models = Models.load(run.models)
    assert models.healthy.expand.weight is models.mixed.expand.weight
    assert (models.healthy.role, models.mixed.role) == ("healthy", "mixed")
    packed = read_bundle(run.bundle).models
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(packed.mixed.reconstruct(x), models.mixed.reconstruct(x))
    assert "latent_l2" in read_scores(run.scores)
    pair = sum(
        read_json(tiny_run.models / role / "trained.json")["parameters"]
        for role in ("healthy", "mixed")
    )
    one = read_json(run.models / "shared" / "trained.json")["parameters"]
    assert 0.5 * pair <= one < 0.6 * pair
    assert f"{one:,} parameters" in (run.folder / "report.html").read_text()

    back = Run.create(mixed_data("own"), folder)  # and back to a pair: nothing stale is read
    run_stages(back, until="train")
    assert isinstance(Models.load(back.models).mixed, VAE)
    assert sorted(p.name for p in back.models.iterdir()) == ["healthy", "mixed"]


def test_conditions_are_the_roles(store: SliceStore) -> None:
    slices = conditioned_slices(store, 0, seed=0)
    assert slices.condition is not None
    assert slices.condition.tolist() == (store.index["role"] == "mixed").astype(int).tolist()
    assert slices.train.tolist() == store.select(split="train").tolist()


def test_labels_of_stated_patients_alone_are_used(store: SliceStore) -> None:
    plain, labelled = (conditioned_slices(store, n, seed=0).condition for n in (0, 2))
    assert plain is not None
    assert labelled is not None
    changed = store.index[plain != labelled]
    assert set(changed["role"]) == {"mixed"}
    assert set(changed["split"]) == {"train"}
    assert (changed["tumour_px"] == 0).all()
    assert 1 <= changed["subject"].nunique() <= 2
    again = conditioned_slices(store, 2, seed=0).condition
    assert np.array_equal(labelled, again)
    with pytest.raises(ConfigError, match="labelled_patients: expected at most"):
        conditioned_slices(store, 1000, seed=0)


def test_labelled_form_trains(store: SliceStore, tmp_path: Path) -> None:
    config = both("conditional_vae_labelled", options={"labelled_patients": 2})
    train_twins(config, store, tmp_path)
    assert load_model(tmp_path / "shared").options.labelled_patients == 2


def test_networks_are_checked_before_anything_is_done() -> None:
    check_networks(tiny_config())
    wrong = tiny_config(models__mixed__kind="conditional_vae")
    with pytest.raises(ConfigError, match="kind conditional_vae: is trained once for both roles"):
        check_networks(wrong)
    with pytest.raises(ConfigError, match="options of kind vae"):
        check_networks(tiny_config(models__healthy__options={"nonsense": 1}))
    pooled = both("conditional_vae")
    data = pooled.training.healthy.model_copy(update={"data": "pooled"})
    training = pooled.training.model_copy(update={"healthy": data, "mixed": data})
    with pytest.raises(ConfigError, match=r"training\.data: expected own"):
        check_networks(pooled.model_copy(update={"training": training}))
    with pytest.raises(ConfigError, match=r"healthy\.data must not be"):
        tiny_config(training__healthy__data="mixed_and_healthy_reconstructions")


def test_latent_scores_of_a_model_without_encoding_are_refused(tiny_run: Run, tmp_path) -> None:
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    run = Run.create(both("denoising_ae"), tmp_path / "run")
    with pytest.raises(ConfigError, match="latent_l2"):
        run_stages(run, until="score")
