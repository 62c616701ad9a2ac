"""Planted lesions as a yardstick: on a run's own validation slices, without a label."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tiny import tiny_config
from twinvae.commands.app import app
from twinvae.errors import CalibrationError
from twinvae.imaging import SliceStore
from twinvae.planting import Planting
from twinvae.runs.planted_auroc import YARDSTICK_COLUMNS, plant, planted_aurocs, planting_for
from twinvae.scoring import Models, score_and_fit, select_scores
from twinvae.training import Compute


@pytest.fixture(scope="module")
def store(tiny_run):
    return SliceStore.open(tiny_run.slices)


def test_every_validation_slice_comes_twice_alike_but_for_its_lesion(store):
    planted = plant(store, Planting(contrast="T2w"), seed=0)
    val = store.select("healthy", "val")
    index = planted.index.iloc[planted.judged]
    plain, twin = (index[index["role"] == role] for role in ("healthy", "mixed"))
    assert len(plain) == len(twin) == len(val)
    for name in ("source", "subject", "slice", "position", "brain_px"):
        assert plain[name].tolist() == twin[name].tolist()
    lesion = (planted.images[twin.index] != planted.images[plain.index]).sum(axis=(1, 2))
    own = lesion * (twin["pixel_mm"] / twin["spacing_mm"]) ** 2  # counted on the scan's own grid
    assert (twin["tumour_px"] > 0).all()
    assert 0.5 < (twin["tumour_px"] / own).median() < 1.5
    before, after = (planted.images[part.index].astype(int) for part in (plain, twin))
    np.testing.assert_array_equal(before, store.images[val])
    np.testing.assert_array_equal(planted.brain[plain.index], planted.brain[twin.index])
    assert (np.abs(after - before).max(axis=(1, 2)) > 500).mean() > 0.9
    assert not (after - before)[planted.brain[twin.index] == 0].any()


def test_aurocs_agree_with_scikit_learn_and_area_is_blind(tiny_run, store):
    found = planted_aurocs(tiny_run, resamples=100)
    assert tuple(found.columns) == YARDSTICK_COLUMNS
    assert found["auroc"].is_monotonic_decreasing
    assert (found["ci_low"] <= found["auroc"]).all()
    assert (found["auroc"] <= found["ci_high"]).all()
    by_name = found.set_index("score")["auroc"]
    assert by_name["trivial_brain_area"] == by_name["trivial_position"] == 0.5

    planted = plant(store, planting_for(tiny_run.config), seed=0)
    options, compute = tiny_run.config.scoring, Compute.resolve(tiny_run.config.compute)
    models = Models.load(tiny_run.models)
    table, _ = score_and_fit(
        planted, planted.judged, models, select_scores(options.scores, models), options, compute
    )
    expected = roc_auc_score(table["role"] == "mixed", table["image_l2"])
    assert by_name["image_l2"] == pytest.approx(expected)


def test_same_seed_same_lesions_and_stronger_ones_are_seen_better(tiny_run):
    weak = Planting(contrast="T2w", strength=(0.05, 0.06), diameter_mm=(8, 10))
    strong = Planting(contrast="T2w", strength=(1.0, 1.2), diameter_mm=(40, 50))
    first, again, better = (
        planted_aurocs(tiny_run, planting=p, resamples=20).set_index("score")["auroc"]
        for p in (weak, weak, strong)
    )
    assert first.equals(again)
    assert better["trivial_mean_intensity"] > first["trivial_mean_intensity"] + 0.1


def test_planting_follows_the_runs_contrast():
    assert planting_for(tiny_config(contrast="FLAIR")).contrast == "FLAIR"
    assert planting_for(tiny_config(contrast="PDw")).contrast == "any"


def test_without_validation_slices_it_says_so(store):
    lost = dataclasses.replace(store, index=store.index.assign(split="train"))
    with pytest.raises(CalibrationError, match="healthy validation slices, found none"):
        plant(lost, Planting(), seed=0)


def test_the_command_prints_and_keeps_the_table(tiny_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(tiny_run.folder, copy)
    done = CliRunner().invoke(app, ["yardstick", str(copy)])
    assert done.exit_code == 0, done.output
    kept = pd.read_csv(copy / "yardstick.tsv", sep="\t")
    assert list(kept.columns) == list(YARDSTICK_COLUMNS)
    assert f"{kept['score'][0]:36} {kept['auroc'][0]:.3f} (" in done.output
