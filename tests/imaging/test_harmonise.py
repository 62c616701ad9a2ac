"""Harmonisation against independent calculations: ranks, SimpleITK, loops over landmarks."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from small_brain import STEPS, Brain, make_brain

from twinvae.config import BrainMask, HistogramMatch, NyulScale, Reorient, ZScore
from twinvae.errors import DataError
from twinvae.imaging import back_to_scan, fit_recipe, in_scan_units, prepare_scan, unit_images
from twinvae.imaging.fitted_recipe import run_steps
from twinvae.imaging.steps import intensity

FRONT = (Reorient(), BrainMask())
END = STEPS[-1]


def changed(brain, function):
    image = np.where(brain.mask, function(brain.image), 0)
    return Brain(image, brain.mask, brain.tumour, brain.affine)


@pytest.fixture
def train(put):
    """Three training scans of different brains and contrasts."""
    brains = [changed(make_brain(i), lambda v, i=i: (i + 1) * v**1.2) for i in range(3)]
    scans = [
        put(b, f"train{i}", role="healthy", split="train", dtype=np.float32)
        for i, b in enumerate(brains)
    ]
    return brains, scans


def harmonised(options, scan, train):
    recipe = fit_recipe((*FRONT, options, END), train)
    working = run_steps(scan, recipe.steps[:3], recipe.fitted[:3])
    return working, recipe.fitted[2]


def rank_matched(values, reference):
    """Every value becomes the reference's value of the same rank (independent of the code)."""
    ranks = np.searchsorted(np.sort(values), values, side="left")
    ranks = (ranks + np.searchsorted(np.sort(values), values, side="right") - 1) / 2
    share = ranks / (len(values) - 1)
    return np.interp(share * (len(reference) - 1), np.arange(len(reference)), np.sort(reference))


def test_histogram_matching_agrees_with_ranks_and_with_simpleitk(brain, put, train):
    brains, scans = train
    scan = put(changed(brain, lambda v: np.sqrt(v) * 50), dtype=np.float32)
    options = HistogramMatch(low=0, high=100)
    working, fitted = harmonised(options, scan, scans)
    assert fitted["reference"]["subject"] == "train0"
    reference = brains[0].image[brains[0].mask].astype(np.float32)
    low, high = reference.min(), reference.max()
    source = np.float32(np.sqrt(brain.image) * 50)
    expected = (rank_matched(source[brain.mask], reference) - low) / (high - low)
    np.testing.assert_allclose(working.image[brain.mask], expected, atol=4e-3)

    def image(values):
        return sitk.GetImageFromArray(values[None, None].astype(np.float32))

    library = sitk.HistogramMatchingImageFilter()
    library.SetNumberOfHistogramLevels(4096)
    library.SetNumberOfMatchPoints(255)
    library.ThresholdAtMeanIntensityOff()
    matched = sitk.GetArrayFromImage(library.Execute(image(source[brain.mask]), image(reference)))
    theirs = (matched.ravel() - low) / (high - low)
    assert abs(working.image[brain.mask] - theirs).mean() < 3e-3
    assert not working.image[~brain.mask].any()


def test_the_reference_matched_to_itself_is_only_scaled(train):
    brains, scans = train
    working, _ = harmonised(HistogramMatch(low=5, high=95, level=0.7), scans[0], scans)
    values = brains[0].image[brains[0].mask].astype(np.float32)
    low, high = np.percentile(values, [5, 95])
    expected = np.clip((values - low) / (high - low) * 0.7, 0, 1)
    np.testing.assert_allclose(working.image[brains[0].mask], expected, atol=2e-3)


def test_any_rising_change_of_contrast_is_undone_by_matching(brain, put, train):
    _, scans = train
    results = [
        harmonised(HistogramMatch(), put(changed(brain, f), dtype=np.float32), scans)[0].image
        for f in (lambda v: v, lambda v: 3 * v + 100, lambda v: v**1.5)
    ]
    np.testing.assert_allclose(results[1], results[0], atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], atol=4e-3)


def test_nyul_agrees_with_a_loop_over_landmarks(brain, put, train):
    brains, scans = train
    marks = (2, 25, 50, 75, 98)
    options = NyulScale(percentiles=marks, level=0.9)
    standard = np.zeros(5)
    for b in brains:
        values = b.image[b.mask].astype(np.float32)
        ends = np.percentile(values, 2), np.percentile(values, 98)
        for k, mark in enumerate(marks):
            standard[k] += (np.percentile(values, mark) - ends[0]) / (ends[1] - ends[0]) * 0.9 / 3
    scan = put(changed(brain, lambda v: 7 * v - 300), dtype=np.float32)
    working, fitted = harmonised(options, scan, scans)
    np.testing.assert_allclose(fitted["landmarks"], standard, atol=1e-5)
    assert fitted["scans"] == 3
    image = np.float32(7 * brain.image - 300)
    own = [np.percentile(image[brain.mask], mark) for mark in marks]
    for place in np.argwhere(brain.mask)[::97]:
        value = float(image[tuple(place)])
        k = min(max(np.searchsorted(own, value) - 1, 0), 3)
        slope = (standard[k + 1] - standard[k]) / (own[k + 1] - own[k])
        expected = np.clip(standard[k] + slope * (value - own[k]), 0, 1)
        assert working.image[tuple(place)] == pytest.approx(expected, abs=1e-5)


def test_nyul_undoes_scale_and_offset(brain, put, train):
    _, scans = train
    plain, _ = harmonised(NyulScale(), put(brain), scans)
    moved = put(changed(brain, lambda v: 0.5 * v + 40), "moved", dtype=np.float32)
    again, _ = harmonised(NyulScale(), moved, scans)
    np.testing.assert_allclose(again.image, plain.image, atol=1e-5)


def test_z_score_is_the_logistic_function_of_z(brain, put):
    working, fitted = harmonised(ZScore(width=1.5), put(brain), [])
    values = brain.image[brain.mask]
    z = (values - values.mean()) / values.std()
    np.testing.assert_allclose(
        working.image[brain.mask], (1 + np.tanh(z / 3)) / 2, atol=1e-5
    )  # the two forms the documentation gives
    np.testing.assert_allclose(working.image[brain.mask], 1 / (1 + np.exp(-z / 1.5)), atol=1e-5)
    assert fitted == {}
    assert not working.image[~brain.mask].any()


@pytest.mark.parametrize(
    "options", [NyulScale(), HistogramMatch(), ZScore()], ids=lambda options: options.step
)
def test_pictures_come_back_in_the_scans_units(brain, put, train, options):
    x, y, z = np.meshgrid(*(np.arange(n) for n in brain.image.shape), indexing="ij")
    smooth = changed(brain, lambda _: 400 + 6 * x + 4 * y - 5 * z)
    recipe = fit_recipe((*FRONT, options, END.model_copy(update={"size": 48})), train[1])
    prepared = prepare_scan(put(smooth, dtype=np.float32), recipe)
    back = in_scan_units(back_to_scan(unit_images(prepared.images), prepared), prepared)
    inner = brain.mask.copy()
    for axis in (0, 1):
        for shift in (-3, 3):
            inner &= np.roll(brain.mask, shift, axis)
    clipped = [np.percentile(smooth.image[brain.mask], q) for q in (2, 98)]
    inner &= (smooth.image > clipped[0]) & (smooth.image < clipped[1])
    assert abs((back.data - smooth.image)[inner]).mean() < 3


@given(
    st.lists(st.integers(0, 6), min_size=30, max_size=200).filter(lambda v: len(set(v)) > 2),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_knots_rise_whatever_the_ties(values, seed):
    wanted = np.sort(np.random.default_rng(seed).uniform(0, 1, 21)).round(1)
    found = np.percentile(values, np.linspace(0, 100, 21))
    try:
        knots = np.array(intensity._rising(found, wanted, None))
    except (DataError, AttributeError):  # the map would be flat (no scan here to name)
        groups = [wanted[found == value].mean() for value in np.unique(found)]
        assert len(groups) < 2 or max(np.diff(groups)) < 1e-8
        return
    assert (np.diff(knots, axis=0) > 0).all()


@pytest.mark.parametrize("options", [NyulScale(), HistogramMatch(), ZScore()])
def test_flat_brains_are_refused(brain, put, train, options):
    flat = put(Brain(9 * brain.mask, brain.mask, brain.tumour, brain.affine))
    with pytest.raises(DataError, match=r"image\.nii: expected contrast inside the brain"):
        harmonised(options, flat, train[1])


@pytest.mark.parametrize("options", [NyulScale(), HistogramMatch()])
def test_without_a_training_scan_to_fit_on_there_is_no_recipe(put, brain, train, options):
    mixed = put(brain, split="train")
    with pytest.raises(DataError, match=rf"{options.step} expected a healthy training scan"):
        fit_recipe((*FRONT, options, END), [mixed])
    with pytest.raises(DataError, match=rf"{options.step} expected a healthy training scan"):
        fit_recipe((*FRONT, options, END))
    everything = options.model_copy(update={"fit_on": "all"})
    assert fit_recipe((*FRONT, everything, END), [mixed]).fitted[2]


def test_the_reference_may_be_named(train):
    _, scans = train
    named = HistogramMatch(subject="train2")
    assert harmonised(named, scans[0], scans)[1]["reference"]["subject"] == "train2"
    with pytest.raises(DataError, match="training scan of subject nobody"):
        harmonised(HistogramMatch(subject="nobody"), scans[0], scans)
