"""The brain mask of method template: heads of known brains, and what is refused."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from small_brain import STEPS, Brain

from painted_head import painted_head
from twinvae.config import BrainMask, Reorient
from twinvae.errors import DataError
from twinvae.imaging import fit_recipe, prepare_scan
from twinvae.imaging.steps.template_mask import TemplateMask, check_mask, find_brain, template_mask

THICK = (1.0, 1.0, 5.0)


@pytest.fixture(scope="module")
def head():
    return painted_head("t1")


@pytest.fixture(scope="module")
def found(head):
    return find_brain(head.image, head.spacing_mm)


def dice(mask, truth):
    return 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


@pytest.mark.parametrize(
    ("contrast", "spacing_mm", "nod_deg"),
    [("t1", (2.0, 2.0, 2.0), 15), ("t2", THICK, 0), ("flair", THICK, -15), ("t2", (2, 2, 2), 10)],
)
def test_the_brain_is_found_in_any_contrast(contrast, spacing_mm, nod_deg):
    head = painted_head(contrast, spacing_mm, nod_deg, seed=3)
    mask = template_mask(head.image, head.spacing_mm)
    assert dice(mask, head.brain) >= 0.95
    assert 0.9 <= mask.sum() / head.brain.sum() <= 1.1


def test_the_same_head_gives_the_same_mask_on_any_threads(head, found):
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
    state = np.random.get_state()[1].copy()
    try:
        again = find_brain(head.image.copy(), head.spacing_mm)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    np.testing.assert_array_equal(found.brain, again.brain)
    assert (found.similarity, found.edge) == (again.similarity, again.edge)
    np.testing.assert_array_equal(state, np.random.get_state()[1])


def test_intensities_may_be_in_any_unit(head, found):
    mask = template_mask(head.image * 64, head.spacing_mm)
    np.testing.assert_array_equal(mask, found.brain)


def ball():
    at = np.indices((100, 100, 100)) - 50
    rng = np.random.default_rng(0)
    return (100.0 * ((at**2).sum(0) < 40**2) + rng.uniform(0, 3, at.shape[1:])).astype(np.float32)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((80, 80, 80), np.float32),
        np.full((80, 80, 80), 7, np.float32),
        np.random.default_rng(0).rayleigh(5, (80, 90, 80)).astype(np.float32),
        ball(),
    ],
    ids=["nothing", "one value", "noise", "a ball"],
)
def test_what_is_no_head_is_refused(image):
    with pytest.raises(DataError, match="expected"):
        template_mask(image, (2.0, 2.0, 2.0))


def test_a_head_of_a_wrong_voxel_size_is_refused(head):
    with pytest.raises(DataError, match=r"a mask of \d+ ml, expected 700 to 2200 .*voxel size"):
        template_mask(head.image, (2.6, 2.6, 2.6))


def test_each_sign_of_failure_is_named(head):
    good = TemplateMask(head.brain, 0.5, 0.6)
    check_mask(good, head.spacing_mm)
    for changed, said in (
        ({"similarity": 0.05}, r"similarity \(mutual information\) of 0.05"),
        ({"edge": 0.1}, "contrast of 0.10 across"),
        ({"brain": np.ones_like(head.brain)}, "runs into the borders"),
        ({"brain": np.zeros_like(head.brain)}, "a mask of 0 ml"),
    ):
        with pytest.raises(DataError, match=said):
            check_mask(dataclasses.replace(good, **changed), head.spacing_mm)


def test_the_recipe_takes_it_and_names_the_file_it_refuses(put, head, found):
    recipe = fit_recipe((Reorient(), BrainMask(method="template"), *STEPS[2:]))
    flip = np.diag([-2.0, 2.0, 2.0, 1.0])  # stored from right to left
    scan = Brain(head.image[::-1], head.brain[::-1], head.brain[::-1] & False, flip)
    prepared = prepare_scan(put(scan, brain_mask=False, tumour=False), recipe)
    np.testing.assert_array_equal(prepared.grid.brain, found.brain)
    noise = np.random.default_rng(0).rayleigh(50, scan.image.shape).astype(np.float32)
    empty = Brain(noise, scan.mask, scan.tumour, flip)
    with pytest.raises(DataError, match=r"image\.nii: brain_mask method template: expected"):
        prepare_scan(put(empty, "empty", brain_mask=False, tumour=False), recipe)
