"""Maps land on the voxels they were made from, in the scan's own orientation and units."""

import nibabel as nib
import numpy as np
import pytest
from small_brain import STEPS, Brain
from test_recipe import TURNS, turned

from twinvae.config import CropResize, ResampleInPlane
from twinvae.imaging import (
    back_to_scan,
    brain_on_scan,
    fit_recipe,
    in_scan_units,
    prepare_scan,
    read_volume,
    unit_images,
    write_volume,
)


@pytest.mark.parametrize("turn", TURNS[::5])
def test_masks_come_back_to_their_voxels(brain, put, recipe, turn):
    own = turned(brain, turn)
    prepared = prepare_scan(put(own), recipe)
    volume = back_to_scan(prepared.tumour.astype(np.float32), prepared)
    np.testing.assert_array_equal(volume.affine, own.affine)
    assert volume.data.shape == own.image.shape
    kept = brain_on_scan(prepared)
    found, truth = volume.data >= 0.5, own.tumour & kept
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    centre = [np.mean(np.nonzero(m), axis=1) for m in (found, truth)]
    np.testing.assert_allclose(centre[0], centre[1], atol=0.3)


def test_nothing_lands_outside_the_brain_or_in_other_slices(brain, put, recipe):
    prepared = prepare_scan(put(brain), recipe)
    volume = back_to_scan(np.ones(prepared.images.shape, np.float32), prepared)
    kept = np.isin(np.arange(24), prepared.index["slice"])
    np.testing.assert_array_equal(volume.data, (brain.mask & kept).astype(np.float32))
    np.testing.assert_array_equal(brain_on_scan(prepared), brain.mask & kept)


def test_a_crop_smaller_than_the_brain_leaves_zero_around(brain, put):
    steps = (*STEPS[:-1], CropResize(field_of_view_mm=20, size=32))
    prepared = prepare_scan(put(brain), fit_recipe(steps))
    volume = back_to_scan(np.ones(prepared.images.shape, np.float32), prepared)
    inside = volume.data > 0
    assert set(np.unique(volume.data)) == {0.0, 1.0}
    assert np.ptp(np.nonzero(inside)[0]) in (8, 9, 10)
    assert np.ptp(np.nonzero(inside)[1]) in (8, 9, 10)


@pytest.mark.parametrize("steps", [STEPS, (*STEPS[:2], ResampleInPlane(pixel_mm=1.3), *STEPS[2:])])
@pytest.mark.parametrize("size", [32, 64])
def test_pictures_of_a_smooth_scan_come_back_in_scan_units(brain, put, steps, size):
    x, y, z = np.meshgrid(*(np.arange(n) for n in brain.image.shape), indexing="ij")
    smooth = np.where(brain.mask, np.rint(400 + 6 * x + 4 * y - 5 * z), 0)
    lps = turned(
        Brain(smooth, brain.mask, brain.tumour, brain.affine), np.array([[0, -1], [1, -1], [2, 1]])
    )
    crop = CropResize(field_of_view_mm=96, size=size)
    scale = steps[-3].model_copy(update={"high": 100.0})
    prepared = prepare_scan(put(lps), fit_recipe((*steps[:-3], scale, steps[-2], crop)))
    back = in_scan_units(back_to_scan(unit_images(prepared.images), prepared), prepared)
    eroded = brain_on_scan(prepared)
    for axis, width in ((0, 3), (1, 3)):
        for shift in (-width, width):
            eroded &= np.roll(brain_on_scan(prepared), shift, axis)
    assert eroded.sum() > 1000
    error = (back.data - lps.image)[eroded]
    assert abs(error).mean() < 2.0
    assert abs(error.mean()) < 0.3  # a shift by a tenth of a voxel would give 0.6
    assert not back.data[~brain_on_scan(prepared)].any()


def test_intensities_beyond_the_scale_go_on_along_it(brain, put, recipe):
    prepared = prepare_scan(put(brain), recipe)
    (low, _), (high, level) = prepared.scale
    maps = np.full(prepared.images.shape, 2 * level, np.float32)
    back = in_scan_units(back_to_scan(maps, prepared), prepared)
    assert back.data.max() == pytest.approx(low + 2 * (high - low), rel=1e-5)
    bare = prepare_scan(
        put(Brain(brain.image / 999, brain.mask, brain.tumour, brain.affine), dtype="f4"),
        fit_recipe((*STEPS[:2], *STEPS[3:])),
    )
    volume = back_to_scan(unit_images(bare.images), bare)
    assert in_scan_units(volume, bare) is volume


def test_maps_are_written_beside_the_scan(brain, put, recipe, tmp_path):
    scan = put(turned(brain, TURNS[13]))
    prepared = prepare_scan(scan, recipe)
    write_volume(back_to_scan(unit_images(prepared.images), prepared), tmp_path / "map.nii.gz")
    a, b = nib.load(scan.image), nib.load(tmp_path / "map.nii.gz")
    assert a.shape == b.shape
    np.testing.assert_allclose(a.affine, b.affine, atol=1e-5)
    assert read_volume(tmp_path / "map.nii.gz").data.max() <= 1
    with pytest.raises(ValueError, match="expected maps of shape"):
        back_to_scan(np.zeros((1, 2, 3), np.float32), prepared)
