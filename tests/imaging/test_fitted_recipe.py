"""Fitting: training scans only, no more of them than needed, and everything replays from JSON."""

import itertools
import json
import re
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
from small_brain import STEPS, make_brain, save

from twinvae.cohort import write_manifest
from twinvae.cohort.manifest import manifest_table
from twinvae.config import (
    BiasCorrection,
    BrainMask,
    HistogramMatch,
    NyulScale,
    PercentileScale,
    Register,
    Reorient,
    ResampleInPlane,
    SelectSlices,
    ZScore,
    load_config,
    preset_names,
)
from twinvae.errors import ConfigError
from twinvae.imaging import FittedRecipe, fit_recipe, fitted_recipe, prepare_cohort, prepare_scan
from twinvae.imaging.fitted_recipe import check_order

FRONT, END = (Reorient(), BrainMask()), (SelectSlices(min_area_mm2=300), STEPS[-1])
SCALES = (PercentileScale(), NyulScale(scans=2), HistogramMatch(), ZScore())


@pytest.fixture
def cohort(put):
    """Four healthy training scans, two mixed ones, and one healthy test scan."""
    scans = [
        put(make_brain(i), f"h{i}", role="healthy", split="train", tumour=False) for i in range(4)
    ]
    scans += [put(make_brain(9 + i), f"m{i}", split="train") for i in range(2)]
    return [*scans, put(make_brain(20), "test", role="healthy", split="test")]


@pytest.fixture
def read(monkeypatch):
    """Subjects of the scans that fitting reads, in order."""
    seen = []
    original = fitted_recipe.run_steps

    def run_steps(scan, *args):
        seen.append(scan.subject)
        return original(scan, *args)

    monkeypatch.setattr(fitted_recipe, "run_steps", run_steps)
    return seen


def recipe_of(scale, scans):
    return fit_recipe((*FRONT, scale, *END), scans)


def test_a_step_reads_no_more_scans_than_it_needs(cohort, read):
    for scale, expected in (
        (PercentileScale(), []),
        (ZScore(), []),
        (HistogramMatch(), ["h0"]),
        (HistogramMatch(fit_on="mixed"), ["m0"]),
        (HistogramMatch(subject="h2"), ["h2"]),
        (NyulScale(), ["h0", "h1", "h2", "h3"]),
        (NyulScale(scans=2), ["h0", "h3"]),
        (NyulScale(fit_on="all"), ["h0", "h1", "h2", "h3", "m0", "m1"]),
    ):
        read.clear()
        recipe_of(scale, cohort)
        assert sorted(read) == expected


def test_only_training_scans_matter_and_their_order_does_not(cohort, put):
    for scale in SCALES:
        fitted = recipe_of(scale, cohort)
        assert recipe_of(scale, cohort[::-1]) == fitted
        assert recipe_of(scale, cohort[:-1]) == fitted
        other = put(make_brain(33), "another", role="healthy", split="test")
        validation = put(make_brain(34), "a_third", role="healthy", split="val")
        assert recipe_of(scale, [other, validation, *cohort]) == fitted


def test_a_broken_training_scan_is_replaced_by_another(cohort, read):
    cohort[0].image.write_bytes(b"nonsense")
    assert recipe_of(HistogramMatch(), cohort).fitted[2]["reference"]["subject"] == "h1"
    assert recipe_of(NyulScale(scans=2), cohort).fitted[2]["scans"] == 2


def test_steps_are_fitted_on_what_the_steps_before_leave(cohort):
    plain = recipe_of(HistogramMatch(), cohort).fitted[-3]
    after = fit_recipe((*FRONT, BiasCorrection(), HistogramMatch(), *END), cohort).fitted[-3]
    assert plain["reference"] == after["reference"]
    assert plain["quantiles"] != after["quantiles"]


@pytest.fixture
def template(tmp_path):
    brain = make_brain(5)
    return save(tmp_path / "template.nii.gz", 900 * brain.mask - brain.image, brain.affine)


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.step)
def test_every_combination_of_steps_replays_from_json(cohort, template, scale):
    """What the bundle stores gives a test scan the very slices the run gave it."""
    quick = {"scans": 1} if isinstance(scale, NyulScale) else {}
    scale = scale.model_copy(update=quick)
    registers = [(), (Register(template=template),)]
    registers += [(Register(template=template, transform="affine"),)]
    optional = (
        ((), (BiasCorrection(iterations=(2, 2)),)),
        registers,
        ((), (ResampleInPlane(pixel_mm=1.5),)),
    )
    for middle in itertools.product(*optional):
        steps = (*FRONT, *itertools.chain(*middle), scale, *END)
        recipe = fit_recipe(steps, cohort)
        text = json.dumps(recipe.to_json(), allow_nan=False)
        again = FittedRecipe.from_json(json.loads(text))
        assert again == recipe
        a, b = (prepare_scan(cohort[-1], each) for each in (recipe, again))
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.brain, b.brain)
        assert a.index.equals(b.index)
        assert a.images.max() > 0.3 * 65535
        assert (
            0.5 < a.brain.sum() * 9 / (a.index["brain_px"] * a.index["spacing_mm"] ** 2).sum() < 2
        )
    assert len(text) < 60_000


def test_the_template_is_kept_with_the_recipe(cohort, template):
    recipe = fit_recipe((*FRONT, Register(template=template), ZScore(), *END))
    before = prepare_scan(cohort[-1], recipe)
    template.unlink()
    again = FittedRecipe.from_json(json.loads(json.dumps(recipe.to_json())))
    np.testing.assert_array_equal(prepare_scan(cohort[-1], again).images, before.images)


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        ((PercentileScale(), ZScore()), "expected at most one of percentile_scale, nyul_scale"),
        ((ZScore(), BiasCorrection()), "expected bias_correction before z_score"),
        ((Register(), BiasCorrection()), "expected bias_correction before register"),
        ((SelectSlices(), Register()), "expected register before select_slices"),
        ((ResampleInPlane(), Register()), "expected register before resample_in_plane"),
        ((Register(), Register()), "expected register at most once"),
    ],
)
def test_impossible_orders(middle, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        fit_recipe((*FRONT, *middle, STEPS[-1]))


def test_processes_do_not_change_the_bytes_nor_import_torch(cohort, template, tmp_path):
    columns = ("subject", "source", "role", "split", "image", "brain_mask")
    cohort = [replace(scan, tumour_mask=None) for scan in cohort]
    rows = [{name: str(getattr(scan, name)) for name in columns} for scan in cohort]
    write_manifest(manifest_table(rows), tmp_path / "manifest.tsv")
    bias = BiasCorrection(iterations=(2, 2))
    steps = (*FRONT, bias, Register(template=template), HistogramMatch(), *END)
    script = (
        "import sys, pathlib, json\n"
        "from twinvae.imaging import FittedRecipe, prepare_cohort\n"
        "steps = FittedRecipe.read(pathlib.Path('recipe.json')).steps\n"
        "prepare_cohort(pathlib.Path('manifest.tsv'), steps, pathlib.Path('one'), jobs=1)\n"
        "assert 'torch' not in sys.modules\n"
    )
    (tmp_path / "recipe.json").write_text(json.dumps(fit_recipe(steps, cohort).to_json()))
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    store = prepare_cohort(tmp_path / "manifest.tsv", steps, tmp_path / "two", jobs=2)
    for name in ("images.npy", "index.tsv", "recipe.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert store.skipped.empty
    alone = prepare_scan(cohort[-1], store.recipe)
    rows = store.index.index[store.index["subject"] == "test"]
    np.testing.assert_array_equal(store.images[rows], alone.images)


def test_one_scan_is_in_memory_at_a_time(cohort, monkeypatch):
    alive, most = set(), []
    original = fitted_recipe.run_steps

    def run_steps(scan, *args):
        working = original(scan, *args)
        alive.add(scan.subject)
        weakref.finalize(working, alive.discard, scan.subject)
        most.append(len(alive))
        return working

    monkeypatch.setattr(fitted_recipe, "run_steps", run_steps)
    recipe_of(NyulScale(), cohort)
    assert len(most) == 4
    assert max(most) <= 2  # the next is read while the loop still names the last


@pytest.mark.parametrize("name", preset_names())
def test_the_presets_recipes_can_be_followed(name):
    config = load_config(name)
    check_order(config.recipe)
    assert FittedRecipe(config.recipe, tuple({} for _ in config.recipe)).crop.size in (64, 128)


def test_a_templates_path_is_taken_from_the_configurations_folder(tmp_path):
    text = "preset: demo\nrecipe: [{step: brain_mask}, {step: register, template: t.nii.gz}, "
    (tmp_path / "run.yaml").write_text(text + "{step: crop_resize}]\n")
    assert load_config(tmp_path / "run.yaml").recipe[1].template == tmp_path / "t.nii.gz"
