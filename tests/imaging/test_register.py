"""Registration: recovers known moves, repeatably; maps come back to their voxels."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from small_brain import STEPS, Brain, make_brain, save
from test_recipe import TURNS, same, turned

from twinvae.config import BrainMask, CropResize, PercentileScale, Register, Reorient, SelectSlices
from twinvae.errors import DataError
from twinvae.imaging import back_to_scan, brain_on_scan, fit_recipe, prepare_scan, unit_images
from twinvae.imaging.fitted_recipe import run_steps
from twinvae.imaging.steps.register import Template, mni_t1
from twinvae.imaging.volume import read_volume

FRONT = (Reorient(), BrainMask())
SIDE = 3.0  # mm, of the moved head


@pytest.fixture(scope="module")
def head():
    """The MNI brain at 3 mm with the contrast of T2w, and more signal on its right."""
    t1 = read_volume(mni_t1()).data[::3, ::3, ::3]
    mask = ndimage.binary_fill_holes(t1 > 0)
    image = np.where(mask, 1200 - 900 * t1 / t1.max(), 0)
    image[40:48, 40:48, 30:38] *= 1.4
    image = np.rint(np.pad(image, 12))
    return Brain(image, image > 0, image < 0, np.diag([SIDE, SIDE, SIDE, 1.0]))


def moved(head, degrees, shift_mm, stretch=(1.0, 1.0, 1.0)):
    """The head turned about the volume's middle, stretched and shifted; and how."""
    linear = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(stretch)
    centre = (np.array(head.image.shape) - 1) / 2
    inverse = np.linalg.inv(linear)
    offset = centre - inverse @ (centre + np.array(shift_mm) / SIDE)
    image = ndimage.affine_transform(head.image, inverse, offset, order=1)
    mask = ndimage.affine_transform(head.mask.astype(float), inverse, offset, order=1) > 0.5
    return Brain(np.where(mask, image, 0), mask, mask & False, head.affine), linear


def placed(scan, transform="rigid"):
    recipe = fit_recipe((*FRONT, Register(transform=transform), STEPS[-1]))
    return run_steps(scan, recipe.steps[:3], recipe.fitted[:3])


@pytest.mark.parametrize(
    ("degrees", "shift"), [((12, -8, 15), (9, -14, 6)), ((-20, 3, -5), (-12, 4, -16))]
)
def test_a_known_move_is_recovered(head, put, degrees, shift):
    """Within 1 mm and 1 degree, though the template is T1 and the scan is not."""
    other, linear = moved(head, degrees, shift)
    before = placed(put(head, "before", tumour=False)).moved.place
    after = placed(put(other, "after", tumour=False)).moved.place
    between = after @ np.linalg.inv(before)  # what was planted, about the volume's middle
    angle = np.rad2deg(Rotation.from_matrix(between[:3, :3] @ linear.T).magnitude())
    assert angle < 1.0
    middle = np.array(head.image.shape) * SIDE / 2
    corners = np.array([[x, y, z] for x in (-60, 60) for y in (-80, 80) for z in (-60, 60)])
    found = (middle + corners) @ between[:3, :3].T + between[:3, 3]
    planted = corners @ linear.T + middle + shift
    assert np.linalg.norm(found - planted, axis=1).mean() < 1.0
    # The scan itself is the template's own brain: it hardly needs moving.
    assert np.rad2deg(Rotation.from_matrix(before[:3, :3]).magnitude()) < 1.0


def test_an_affine_fit_finds_the_stretch_and_a_rigid_one_keeps_sizes(head, put):
    other, _ = moved(head, (5, 0, -6), (4, 4, -4), stretch=(0.9, 1.08, 0.95))
    scan = put(other, tumour=False)
    affine, rigid = placed(scan, "affine"), placed(scan, "rigid")
    stretch = np.linalg.svd(affine.moved.place[:3, :3])[1]
    np.testing.assert_allclose(np.sort(stretch), [0.9, 0.95, 1.08], atol=0.02)
    turn = rigid.moved.place[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert rigid.brain.sum() == pytest.approx(other.mask.sum() * SIDE**3, rel=0.01)
    template = Template.read(None)
    assert affine.image.shape == tuple(round(mm) for mm in template.size_mm) == (197, 233, 189)


@pytest.fixture
def small(tmp_path):
    """Options whose template is a small brain of another contrast."""
    brain = make_brain(7)
    path = tmp_path / "template.nii.gz"
    save(path, np.where(brain.mask, 900 - brain.image, 0), brain.affine)
    return Register(template=path, voxel_mm=1.5)


def recipe_with(options, size=32):
    crop = CropResize(field_of_view_mm=96, size=size)
    scale = PercentileScale(high=100)
    return fit_recipe((*FRONT, options, scale, SelectSlices(min_area_mm2=100), crop))


@pytest.mark.parametrize("turn", TURNS[::13])
def test_orientation_obliqueness_type_and_format_change_nothing(put, brain, small, turn):
    recipe = recipe_with(small)
    expected = prepare_scan(put(brain), recipe)
    other = turned(brain, turn)
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("xyz", (14, -9, 11), degrees=True).as_matrix()
    if np.abs(other.affine[:3, :3]).argmax(0).tolist() == [0, 1, 2]:
        other.affine = tilt @ other.affine
    same(prepare_scan(put(other, "t", dtype=np.float64), recipe), expected)
    sloped = put(other, "s", slope=0.25, inter=-7)
    prepared = prepare_scan(sloped, recipe)
    difference = abs(prepared.images.astype(int) - expected.images.astype(int)) / 65535
    assert difference.mean() < 1e-4  # rounding may end the fit elsewhere by a hair


@pytest.mark.parametrize("transform", ["rigid", "affine"])
@pytest.mark.parametrize("turn", TURNS[5::17])
def test_maps_come_back_to_their_voxels(put, brain, small, transform, turn):
    own = turned(brain, turn)
    options = small.model_copy(update={"transform": transform})
    prepared = prepare_scan(put(own), recipe_with(options, size=64))
    volume = back_to_scan(prepared.tumour.astype(np.float32), prepared)
    assert volume.data.shape == own.image.shape
    np.testing.assert_array_equal(volume.affine, own.affine)
    kept = brain_on_scan(prepared)
    assert kept.sum() > 0.9 * own.mask.sum()
    assert not (kept & ~own.mask).any()
    found, truth = volume.data >= 0.5, own.tumour & kept
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.88
    centre = [np.mean(np.nonzero(m), axis=1) for m in (found, truth)]
    np.testing.assert_allclose(centre[0], centre[1], atol=0.3)
    assert not volume.data[~kept].any()
    pictures = back_to_scan(unit_images(prepared.images), prepared)
    assert np.corrcoef(pictures.data[kept], own.image[kept])[0, 1] > 0.9


def test_tumours_and_brain_are_counted_on_the_templates_grid(put, brain, small):
    prepared = prepare_scan(put(brain), recipe_with(small))
    assert prepared.index["spacing_mm"].eq(1.5).all()
    millilitres = prepared.index["tumour_px"].sum() * 1.5**3 / 1000
    assert millilitres == pytest.approx(brain.tumour.sum() * 12 / 1000, rel=0.1)
    assert prepared.statistics["brain_ml"] == pytest.approx(brain.mask.sum() * 12 / 1000)
    assert prepared.statistics["spacing_z_mm"] == 3.0


def test_thick_slices_are_refused(put, brain, small):
    thick = Brain(brain.image, brain.mask, brain.tumour, np.diag([1.0, 1, 5, 1]))
    with pytest.raises(DataError, match=r"expected slices at most 3 mm apart .* found 5 mm"):
        prepare_scan(put(thick), recipe_with(small))


def test_a_brain_unlike_the_template_is_refused(put, brain, small):
    part = brain.mask & (np.arange(24) < 7)
    scan = put(Brain(brain.image, part, brain.tumour, brain.affine))
    with pytest.raises(DataError, match=r"image\.nii: expected a brain (that|of the template)"):
        prepare_scan(scan, recipe_with(small))
    flat = put(Brain(9 * brain.mask, brain.mask, brain.tumour, brain.affine), "flat")
    with pytest.raises(DataError, match="expected contrast inside the brain, found 9"):
        prepare_scan(flat, recipe_with(small))


def test_templates(tmp_path, brain):
    head = save(tmp_path / "head.nii", brain.image + 5, brain.affine)
    with pytest.raises(DataError, match=r"head\.nii: expected a template without skull"):
        Template.read(head)
    lps = turned(brain, TURNS[13])
    plain = Template.read(save(tmp_path / "a.nii", brain.image, brain.affine))
    other = Template.read(save(tmp_path / "b.nii", lps.image, lps.affine))
    np.testing.assert_array_equal(plain.values, other.values)
    assert plain.size_mm == other.size_mm == (72.0, 88.0, 72.0)
    for harm in ({}, {**plain.to_json(), "values": "???"}, {**plain.to_json(), "cells": [1, 2, 3]}):
        with pytest.raises(DataError, match="expected a stored template"):
            Template.from_json(harm)
