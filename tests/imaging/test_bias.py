"""N4: a planted field goes, the scan's units come back, neither margin nor header matters."""

import numpy as np
import pytest
from small_brain import STEPS, Brain
from test_recipe import TURNS, same, turned

from twinvae.config import BiasCorrection, BrainMask, Reorient
from twinvae.errors import DataError
from twinvae.imaging import back_to_scan, brain_on_scan, fit_recipe, in_scan_units, prepare_scan
from twinvae.imaging.fitted_recipe import run_steps

N4 = (*STEPS[:2], BiasCorrection(), *STEPS[2:])


def ball(spacing=4.0, noise=5.0, shape=(40, 44, 36)):
    """A uniform ball of radius 66 mm with a little noise, and a smooth field to plant in it."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = [66 / (n * spacing / 2) for n in shape]
    mask = (x / radius[0]) ** 2 + (y / radius[1]) ** 2 + (z / radius[2]) ** 2 < 1
    rng = np.random.default_rng(0)
    image = np.where(mask, 1000 + noise * rng.standard_normal(shape), 0)
    field = np.exp(0.35 * x - 0.3 * y**2 + 0.25 * z)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return Brain(image, mask, mask & False, affine), field


def corrected(scan, options=BiasCorrection()):  # noqa: B008
    return run_steps(scan, (Reorient(), BrainMask(), options), ({}, {}, {}))


def variation(image, mask):
    return image[mask].std() / image[mask].mean()


def test_a_planted_field_is_removed_from_a_uniform_phantom(put):
    brain, field = ball()
    planted = Brain(brain.image * field, brain.mask, brain.tumour, brain.affine)
    working = corrected(put(planted, dtype=np.float32))
    before, after = variation(planted.image, brain.mask), variation(working.image, brain.mask)
    assert before > 0.14
    assert after < before / 8
    found = np.log(working.gain.on_grid())[brain.mask]
    assert np.corrcoef(found, np.log(field)[brain.mask])[0, 1] > 0.99


def test_a_uniform_phantom_is_left_alone(put):
    brain, _ = ball()
    working = corrected(put(brain, dtype=np.float32))
    assert abs(working.gain.on_grid()[brain.mask] - 1).max() < 0.005
    assert not working.image[~brain.mask].any()


def test_the_gain_brings_the_scan_back(put, brain):
    working = corrected(put(brain))
    np.testing.assert_allclose(working.image * working.gain.on_grid(), brain.image, rtol=1e-5)


def test_pictures_come_back_in_the_scans_units(put):
    brain, field = ball(noise=0)
    planted = Brain(brain.image * field, brain.mask, brain.tumour, brain.affine)
    flat = np.where(brain.mask, planted.image, 0)
    scan = put(turned(Brain(flat, brain.mask, brain.tumour, brain.affine), TURNS[31]), dtype="f4")
    prepared = prepare_scan(scan, fit_recipe(N4))
    maps = prepared.images.astype(np.float32) / 65535
    back = in_scan_units(back_to_scan(maps, prepared), prepared)
    truth = turned(planted, TURNS[31]).image
    inside = brain_on_scan(prepared) & (back.data > 0)
    assert np.median(abs(back.data[inside] / truth[inside] - 1)) < 0.02


def test_an_empty_margin_changes_nothing(put, brain):
    wide = np.pad(brain.image, ((9, 4), (0, 7), (5, 0)))
    mask = np.pad(brain.mask, ((9, 4), (0, 7), (5, 0)))
    narrow, margin = corrected(put(brain)), corrected(put(Brain(wide, mask, mask, brain.affine)))
    np.testing.assert_allclose(margin.image[mask], narrow.image[brain.mask], rtol=1e-4)


@pytest.mark.parametrize("turn", TURNS[::13])
def test_orientation_type_and_format_change_nothing(put, brain, turn):
    recipe = fit_recipe(N4)
    expected = prepare_scan(put(brain), recipe)
    same(prepare_scan(put(turned(brain, turn), "t", dtype=np.float64), recipe), expected)
    sloped = put(turned(brain, turn), "s", slope=0.25, inter=-7)
    same(prepare_scan(sloped, recipe), expected, tolerance=2)


def test_voxels_thicker_than_the_cells_are_not_split(put, brain):
    thick = Brain(brain.image, brain.mask, brain.tumour, np.diag([2.0, 2.0, 9.0, 1.0]))
    grid = corrected(put(thick)).gain.grid
    assert grid.step == (3.0, 3.0, 1.0)
    assert grid.cells[2] == np.ptp(np.flatnonzero(brain.mask.any((0, 1)))) + 1


def test_intensities_that_have_no_logarithm_are_refused(put, brain):
    dark = Brain(np.where(brain.mask, -brain.image, 0), brain.mask, brain.tumour, brain.affine)
    with pytest.raises(DataError, match=r"image\.nii: expected positive intensities inside"):
        corrected(put(dark))


def test_a_brain_smaller_than_the_cells_is_refused(put, brain):
    speck = np.zeros_like(brain.mask)
    speck[18, 20, 11] = True
    scan = put(Brain(brain.image, speck, brain.tumour, brain.affine))
    with pytest.raises(DataError, match=r"image\.nii: expected a brain of many cells of 6 mm"):
        corrected(scan)
