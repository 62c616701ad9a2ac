"""One scan through the recipe: orientation, counts, steps, and the errors on the way."""

import itertools
import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from small_brain import STEPS, Brain, make_brain, save

from twinvae.config import (
    AlignMirror,
    BrainMask,
    CropResize,
    PercentileScale,
    Reorient,
    ResampleInPlane,
    SelectSlices,
)
from twinvae.errors import ConfigError, DataError
from twinvae.imaging import INDEX_COLUMNS, FittedRecipe, fit_recipe, prepare_scan, unit_images

TURNS = [
    np.array([[axis, flip] for axis, flip in zip(axes, flips, strict=True)], float)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product([1, -1], repeat=3)
]


def turned(brain, turn):
    """The same brain stored with other axes."""
    affine = brain.affine @ nib.orientations.inv_ornt_aff(turn, brain.image.shape)
    arrays = [nib.apply_orientation(a, turn) for a in (brain.image, brain.mask, brain.tumour)]
    return Brain(*arrays, affine)


def same(a, b, tolerance=0):
    np.testing.assert_array_equal(a.brain, b.brain)
    np.testing.assert_array_equal(a.tumour, b.tumour)
    assert abs(a.images.astype(int) - b.images.astype(int)).max() <= tolerance
    columns = [c for c in INDEX_COLUMNS if c != "subject"]
    assert a.index[columns].equals(b.index[columns])


def test_all_48_orientations_prepare_the_same(brain, put, recipe):
    expected = prepare_scan(put(brain), recipe)
    assert len(TURNS) == 48
    for turn in TURNS:
        same(prepare_scan(put(turned(brain, turn), "turned"), recipe), expected)


@given(
    st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.sampled_from(TURNS), st.integers(0, 9)
)
@settings(max_examples=25, deadline=None)
def test_oblique_scans_prepare_on_their_own_grid(tmp_path_factory, angles, turn, seed):
    brain = make_brain(seed)
    root = tmp_path_factory.mktemp("oblique")
    recipe = fit_recipe(STEPS)
    files = []
    for name, tilt in (("straight", [0, 0, 0]), ("tilted", angles)):
        rotation = np.eye(4)
        for axis, degrees in enumerate(np.deg2rad(tilt)):
            turn_by = np.eye(4)
            i, j = [k for k in range(3) if k != axis]
            turn_by[[i, i, j, j], [i, j, i, j]] = (
                *(np.cos(degrees), -np.sin(degrees)),
                *(np.sin(degrees), np.cos(degrees)),
            )
            rotation = turn_by @ rotation
        one = turned(replace_affine(brain, rotation @ brain.affine), turn)
        files.append(root / f"{name}.nii")
        save(files[-1], one.image, one.affine)
    straight, tilted = (prepare_scan(scan_of(file), recipe) for file in files)
    same(straight, tilted)


def replace_affine(brain, affine):
    return Brain(brain.image, brain.mask, brain.tumour, affine)


def scan_of(file, **more):
    from twinvae.imaging import ScanFiles

    return ScanFiles(subject="x", image=file, **more)


def test_the_picture_has_the_front_on_top_and_the_right_on_the_left(brain, put, recipe):
    image = np.where(brain.mask, 100.0, 0)
    image[brain.mask & (np.arange(44)[None, :, None] > 30)] = 200  # front
    image[brain.mask & (np.arange(36)[:, None, None] > 24)] = 300  # the person's right
    prepared = prepare_scan(put(Brain(image, brain.mask, brain.tumour, brain.affine)), recipe)
    middle = prepared.images[len(prepared.images) // 2].astype(float)
    inside = prepared.brain[len(prepared.images) // 2] > 0
    rows, cols = np.nonzero(inside)
    left = cols < np.percentile(cols, 15)
    front = (rows < np.percentile(rows, 15)) & ~left
    rest = (rows > np.percentile(rows, 50)) & (cols > np.percentile(cols, 50))
    values = middle[inside]
    assert np.median(values[left]) > 1.3 * np.median(values[front])
    assert np.median(values[front]) > 1.5 * np.median(values[rest])


def test_the_square_is_centred_on_the_brain_and_strays_do_not_move_it(brain, put, recipe):
    def middle(masked):
        prepared = prepare_scan(put(masked), recipe)
        rows, cols = np.nonzero(prepared.brain.any(0))
        return (rows.min() + rows.max()) / 2, (cols.min() + cols.max()) / 2

    assert middle(brain) == pytest.approx((15.5, 15.5), abs=0.51)
    stray = brain.mask.copy()
    stray[0, 0, 12] = stray[35, 20, 12] = True
    moved = Brain(brain.image, stray, brain.tumour, brain.affine)
    a, b = prepare_scan(put(brain), recipe), prepare_scan(put(moved), recipe)
    assert a.grid.window == b.grid.window


def test_a_symmetric_brain_prepares_to_its_own_mirror_image(put, recipe):
    half = make_brain().image[:18]
    image = np.concatenate([half, half[::-1]])
    brain = Brain(image, image != 0, np.zeros(image.shape, bool), np.diag([2.0, 2, 3, 1]))
    prepared = prepare_scan(put(brain), recipe)
    assert abs(prepared.images.astype(int) - prepared.images[:, :, ::-1].astype(int)).max() <= 1


@pytest.mark.parametrize("dtype", ["u2", "i2", "i4", "f4", "f8"])
def test_data_types_and_files_agree(brain, put, recipe, tmp_path, dtype):
    expected = prepare_scan(put(brain), recipe)
    same(prepare_scan(put(brain, "other", dtype=dtype), recipe), expected)
    other = put(brain, "itk", dtype=dtype)
    moved = {}
    for name in ("image", "brain_mask", "tumour_mask"):
        path = getattr(other, name)
        moved[name] = path.with_suffix(".mha")
        sitk.WriteImage(sitk.ReadImage(str(path)), str(moved[name]), useCompression=True)
    same(prepare_scan(replace(other, **moved), recipe), expected)


def test_a_scaling_slope_changes_nothing(brain, put, recipe):
    expected = prepare_scan(put(brain), recipe)
    scaled = put(brain, "scaled", dtype=np.int16, slope=0.25, inter=-7)
    same(prepare_scan(scaled, recipe), expected, tolerance=1)


def test_the_index_says_where_each_slice_is_from(brain, put, recipe):
    prepared = prepare_scan(put(brain, subject="007", source="src", split="val"), recipe)
    index = prepared.index
    assert tuple(index.columns) == INDEX_COLUMNS
    area = brain.mask.sum((0, 1))
    kept = np.flatnonzero(area * 4 >= 300)
    np.testing.assert_array_equal(index["slice"], kept)
    np.testing.assert_array_equal(index["brain_px"], area[kept])
    np.testing.assert_array_equal(index["tumour_px"], brain.tumour.sum((0, 1))[kept])
    first, last = np.flatnonzero(area)[[0, -1]]
    np.testing.assert_allclose(index["position"], (kept - first) / (last - first), atol=1e-6)
    assert index["spacing_mm"].eq(2.0).all()
    assert index["pixel_mm"].eq(3.0).all()
    assert index[["subject", "source", "role", "split"]].drop_duplicates().values.tolist() == [
        ["007", "src", "mixed", "val"]
    ]
    assert prepared.images.dtype == np.uint16
    assert prepared.images.shape == prepared.brain.shape == (len(kept), 32, 32)
    assert set(np.unique(prepared.brain)) == set(np.unique(prepared.tumour)) == {0, 1}


def test_tumour_pixels_of_scans_without_a_mask(brain, put, recipe):
    assert prepare_scan(put(brain, tumour=False), recipe).index["tumour_px"].isna().all()
    healthy = prepare_scan(put(brain, tumour=False, role="healthy"), recipe)
    assert healthy.index["tumour_px"].eq(0).all()
    assert not healthy.tumour.any()


def test_areas_survive_the_resize(brain, put, recipe):
    prepared = prepare_scan(put(brain), recipe)
    before = prepared.index["brain_px"] * 4.0
    after = prepared.brain.sum((1, 2)) * 9.0
    np.testing.assert_allclose(after, before, rtol=0.06)


def test_intensities_are_scaled_inside_the_brain_and_averaged_by_area(brain, put):
    steps = (
        *STEPS[:2],
        PercentileScale(low=10, high=90, level=0.5),
        STEPS[-1],
    )
    prepared = prepare_scan(put(brain), fit_recipe(steps))
    low, high = np.percentile(brain.image[brain.mask], [10, 90])
    assert prepared.scale == ((pytest.approx(low), 0.0), (pytest.approx(high), 0.5))
    unit = np.where(brain.mask, np.clip((brain.image - low) / (high - low) * 0.5, 0, 1), 0)
    millimetres = unit.repeat(2, 0).repeat(2, 1)[::-1, ::-1].transpose(2, 1, 0)  # 1 mm cells
    window = prepared.grid.window
    top, left = round(88 - window.y_max_mm), round(72 - window.x_max_mm)
    cut = np.pad(millimetres, ((0, 0), (50, 50), (50, 50)))
    cut = cut[:, 50 + top : 146 + top, 50 + left : 146 + left]
    expected = cut.reshape(24, 32, 3, 32, 3).mean((2, 4))
    np.testing.assert_allclose(unit_images(prepared.images), expected, atol=2e-5)


def test_select_slices_by_role_count_and_middle(brain, put):
    def kept(*select, role="mixed"):
        recipe = fit_recipe((*STEPS[:3], *select, STEPS[-1]))
        return prepare_scan(put(brain, role=role, tumour=False), recipe).index["slice"].tolist()

    with_brain = np.flatnonzero(brain.mask.any((0, 1))).tolist()
    assert kept() == list(range(24))
    assert kept(SelectSlices(keep="all")) == list(range(24))
    assert kept(SelectSlices(keep="brain")) == with_brain
    assert kept(SelectSlices(keep="middle", count=20)) == list(range(2, 22))
    assert kept(SelectSlices(keep="middle", count=21)) == list(range(1, 22))
    assert kept(SelectSlices(keep="middle", count=99)) == list(range(24))
    five = kept(SelectSlices(keep="brain", count=5))
    assert five == list(range(five[0], five[0] + 5))
    assert abs(np.mean(five) - np.mean(with_brain[:: len(with_brain) - 1])) <= 0.5
    pair = (
        SelectSlices(keep="brain", role="healthy"),
        SelectSlices(keep="middle", count=4, role="mixed"),
    )
    assert kept(*pair) == [10, 11, 12, 13]
    assert kept(*pair, role="healthy") == with_brain
    with pytest.raises(DataError, match=r"image\.nii: expected at least one slice to keep"):
        kept(SelectSlices(keep="brain", min_area_mm2=1e6))


def test_the_position_of_slices_outside_the_brain_stays_within_the_unit_interval(brain, put):
    prepared = prepare_scan(put(brain), fit_recipe((*STEPS[:3], STEPS[-1])))
    assert prepared.index["position"].between(0, 1).all()
    assert not prepared.images[prepared.index["brain_px"].to_numpy() == 0].any()


def test_resampling_in_plane_leaves_counts_and_slices_alone(brain, put, recipe):
    plain = prepare_scan(put(brain), recipe)
    steps = (*STEPS[:2], ResampleInPlane(pixel_mm=1.0), *STEPS[2:])
    fine = prepare_scan(put(brain), fit_recipe(steps))
    assert fine.index.equals(plain.index)
    assert fine.images.shape == plain.images.shape
    difference = abs(unit_images(fine.images) - unit_images(plain.images))
    assert difference[plain.brain > 0].mean() < 0.03
    assert fine.grid.window.x_max_mm == pytest.approx(plain.grid.window.x_max_mm, abs=1.01)
    assert (fine.brain != plain.brain).mean() < 0.02
    coarse = fit_recipe((*STEPS[:2], ResampleInPlane(pixel_mm=10), *STEPS[2:]))
    speck = np.zeros_like(brain.mask)
    speck[18, 20, 11] = True
    scan = put(Brain(brain.image, speck, brain.tumour, brain.affine))
    with pytest.raises(DataError, match="no brain is left on pixels of 10"):
        prepare_scan(scan, coarse)


def test_non_square_pixels_keep_their_proportions(put):
    """A ball stays round, however its voxels are cut."""
    shape = (40, 20, 10)
    x, y, z = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij")
    ball = ((x - 20) * 1.5) ** 2 + ((y - 10) * 3) ** 2 + ((z - 5) * 4) ** 2 < 18**2
    image = np.where(ball, 50 + x + y, 0)
    brain = Brain(np.rint(image), ball, ball & False, np.diag([1.5, 3.0, 4.0, 1]))
    steps = (Reorient(), BrainMask(), PercentileScale(), CropResize(field_of_view_mm=48, size=32))
    prepared = prepare_scan(put(brain), fit_recipe(steps))
    rows, cols = np.nonzero(prepared.brain[5])
    assert abs(np.ptp(rows) - np.ptp(cols)) <= 2
    assert prepared.index["spacing_mm"].iloc[0] == pytest.approx(np.sqrt(4.5), abs=1e-6)


def test_the_background_of_a_stripped_scan_is_a_brain_mask(brain, put, recipe):
    same(prepare_scan(put(brain, brain_mask=False), recipe), prepare_scan(put(brain), recipe))
    head = Brain(brain.image + 5, brain.mask, brain.tumour, brain.affine)
    with pytest.raises(DataError, match="skull-stripped scan on a background of zero, found 100%"):
        prepare_scan(put(head, brain_mask=False), recipe)
    giant = Brain(brain.image, brain.mask, brain.tumour, brain.affine @ np.diag([5, 5, 5, 1]))
    with pytest.raises(DataError, match=r"found \d+ ml of voxels that are not zero"):
        prepare_scan(put(giant, brain_mask=False), recipe)
    masked = prepare_scan(put(head), recipe)
    assert not masked.images[:, 0].any()


def test_the_method_of_the_brain_mask(brain, put):
    def recipe(method):
        return fit_recipe((Reorient(), BrainMask(method=method), *STEPS[2:]))

    with pytest.raises(DataError, match=r"image\.nii: expected a brain mask beside the scan"):
        prepare_scan(put(brain, brain_mask=False), recipe("given"))
    smaller = brain.mask & (np.arange(24) > 11)
    scan = put(Brain(brain.image, smaller, brain.tumour, brain.affine))
    background, given = (prepare_scan(scan, recipe(m)) for m in ("background", "given"))
    assert len(background.images) > len(given.images)
    assert given.index["slice"].min() == 12
    scan.brain_mask.write_bytes(b"nonsense")  # not needed, so not read
    same(prepare_scan(scan, recipe("background")), background)


def test_flat_brains_and_unscaled_intensities_are_refused(brain, put, recipe):
    flat = Brain(np.where(brain.mask, 9, 0), brain.mask, brain.tumour, brain.affine)
    with pytest.raises(DataError, match="expected contrast inside the brain, found 9"):
        prepare_scan(put(flat), recipe)
    with pytest.raises(DataError, match=r"expected intensities in \[0, 1\], found 0 to"):
        prepare_scan(put(brain), fit_recipe((*STEPS[:2], STEPS[-1])))
    scaled = Brain(brain.image / 1000, brain.mask, brain.tumour, brain.affine)
    prepared = prepare_scan(put(scaled, dtype=np.float32), fit_recipe((*STEPS[:2], STEPS[-1])))
    assert prepared.images.max() < 65535


def test_without_reorient_a_scan_must_be_ras(brain, put, recipe):
    bare = fit_recipe(STEPS[1:])
    same(prepare_scan(put(brain), bare), prepare_scan(put(brain), recipe))
    lps = turned(brain, np.array([[0, -1], [1, -1], [2, 1]]))
    with pytest.raises(DataError, match="expected RAS\\+ axes, found LPS; begin the recipe with"):
        prepare_scan(put(lps), bare)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((), "expected crop_resize as the last step but align_mirror, found no step"),
        ((*STEPS[:-1], AlignMirror(), STEPS[-1]), "expected crop_resize before align_mirror"),
        ((*STEPS, AlignMirror(), AlignMirror()), "expected align_mirror at most once"),
        ((*STEPS[:-1], AlignMirror()), "expected crop_resize as the last step"),
        (STEPS[:-1], "expected crop_resize as the last step"),
        ((*STEPS, STEPS[-1]), "expected crop_resize at most once"),
        ((STEPS[1], STEPS[0], *STEPS[2:]), "expected reorient as the first step"),
        ((STEPS[0], STEPS[2], STEPS[1], *STEPS[3:]), "expected brain_mask before all steps"),
        ((STEPS[0], *STEPS[2:]), "expected brain_mask before all steps"),
    ],
)
def test_impossible_orders(steps, message):
    with pytest.raises(ConfigError, match=message):
        fit_recipe(steps)


def test_a_stored_recipe_replays(brain, put, recipe):
    text = json.dumps(recipe.to_json())
    again = FittedRecipe.from_json(json.loads(text))
    assert again == recipe
    same(prepare_scan(put(brain), again), prepare_scan(put(brain), recipe))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "expected a stored recipe"),
        ({"steps": [{"step": "magic"}], "fitted": [{}]}, "expected a stored recipe"),
        ({"steps": [], "fitted": [{}]}, "expected 0 fitted entries, found 1"),
        (None, "expected a stored recipe"),
    ],
)
def test_a_file_that_is_no_recipe(values, message):
    with pytest.raises(DataError, match=re.escape(message)):
        FittedRecipe.from_json(values, "recipe.json")


def test_statistics_describe_the_scan(brain, put, recipe):
    values = prepare_scan(put(brain), recipe).statistics
    assert all(isinstance(v, float) and np.isfinite(v) for v in values.values())
    assert values["brain_ml"] == pytest.approx(brain.mask.sum() * 12 / 1000, rel=1e-6)
    assert values["scan_high"] == pytest.approx(np.percentile(brain.image[brain.mask], 99.5))
    assert 0 <= values["p01"] < values["p50"] < values["p99"] <= 1
    assert (values["spacing_x_mm"], values["spacing_z_mm"]) == (2.0, 3.0)


def test_inputs_stay_as_they_are(brain, put, recipe):
    scan = put(brain)
    before = [p.read_bytes() for p in (scan.image, scan.brain_mask, scan.tumour_mask)]
    state = np.random.get_state()[1].copy()
    prepare_scan(scan, recipe)
    assert [p.read_bytes() for p in (scan.image, scan.brain_mask, scan.tumour_mask)] == before
    assert (np.random.get_state()[1] == state).all()


def test_a_patient_standing_in_for_a_healthy_person_gives_only_slices_without_tumour(
    put, brain, recipe
):
    patient, stand_in = put(brain), put(brain, "twin", role="healthy")
    slices = prepare_scan(patient, recipe).index
    kept = prepare_scan(stand_in, recipe).index
    free = slices[slices["tumour_px"] == 0]
    assert 0 < len(free) < len(slices)
    assert kept["slice"].tolist() == free["slice"].tolist()
    assert (kept["tumour_px"] == 0).all()
    everywhere = Brain(brain.image, brain.mask, np.ones_like(brain.mask), brain.affine)
    with pytest.raises(DataError, match="without tumour in a scan of role healthy, found"):
        prepare_scan(put(everywhere, "ill", role="healthy"), recipe)
