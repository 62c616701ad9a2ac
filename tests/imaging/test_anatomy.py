"""What an atlas says of a scan, against independent calculations."""

import numpy as np
import pytest
from scipy import stats
from small_brain import save

from twinvae.cohort.phantom.mni152 import load_maps
from twinvae.cohort.phantom.subject import make_subject
from twinvae.config import PhantomConfig, load_config
from twinvae.imaging import FittedRecipe, ScanFiles, prepare_scan
from twinvae.imaging.anatomy import STATISTICS, _partial, _rank, anatomy_statistics

STEPS = load_config("demo").recipe
RECIPE = FittedRecipe(STEPS, tuple({} for _ in STEPS))


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    one = make_subject(PhantomConfig(seed=3, spacing_mm=2.0), "healthy", 0)
    path = save(tmp_path_factory.mktemp("s") / "scan.nii.gz", one.picture, one.affine)
    return prepare_scan(ScanFiles("s", path), RECIPE)


def statistics(scan, images=None, brain=None):
    position = scan.index["position"].to_numpy(np.float64)
    brain = scan.grid.brain if brain is None else brain
    return anatomy_statistics(
        brain, scan.images if images is None else images, scan.brain, position
    )


def test_a_t2w_brain_of_the_atlas_has_its_outline_and_its_order(scan):
    found = statistics(scan)
    assert tuple(found) == STATISTICS
    assert {name: scan.statistics[name] for name in STATISTICS} == pytest.approx(found, abs=1e-6)
    assert found["shape_correlation"] > 0.85
    assert found["shape_turned"] < -0.1
    assert found["white_over_grey"] < -0.3 < 0.3 < found["fluid_over_grey"]
    assert 0.5 < found["smoothness"] < 0.95


def test_the_atlas_itself_correlates_fully_with_itself():
    brain = load_maps().brain > 127
    nothing = np.zeros((0, 8, 8), np.uint16)
    found = anatomy_statistics(brain, nothing, nothing.astype(np.uint8), np.zeros(0))
    assert found["shape_correlation"] == pytest.approx(1)
    for axes in ((2,), (1,), (1, 2)):
        turned = anatomy_statistics(
            np.flip(brain, axes), nothing, nothing.astype(np.uint8), np.zeros(0)
        )
        # Turned, it fits the turned atlas as the atlas fits itself, and as badly as it is.
        assert turned["shape_turned"] == pytest.approx(1 - turned["shape_correlation"], abs=0.03)


def test_size_voxels_and_place_do_not_matter(scan):
    brain = scan.grid.brain
    room = np.pad(brain, ((9, 3), (0, 7), (4, 4)))
    finer = brain.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    for other in (room, finer):
        for name in ("shape_correlation", "shape_turned"):
            assert statistics(scan, brain=other)[name] == pytest.approx(
                statistics(scan)[name], abs=0.02
            )


def test_a_rising_map_of_intensities_changes_nothing_and_a_falling_one_the_sign(scan):
    inside = scan.images.astype(np.float64) / 65535
    gamma = np.rint(inside**0.6 * 65535).astype(np.uint16)
    negative = (65535 - scan.images).astype(np.uint16)
    # What the recipe clips at the top shares one rank, so that little is left to change.
    for name in ("white_over_grey", "fluid_over_grey"):
        assert statistics(scan, gamma)[name] == pytest.approx(statistics(scan)[name], abs=0.01)
        assert statistics(scan, negative)[name] == pytest.approx(-statistics(scan)[name], abs=0.05)


def test_a_smooth_bias_field_changes_little(scan):
    rows = np.linspace(0.75, 1.25, scan.images.shape[1])[None, :, None]
    field = np.clip(scan.images * rows, 0, 65535).astype(np.uint16)
    for name in ("white_over_grey", "fluid_over_grey"):
        assert statistics(scan, field)[name] == pytest.approx(statistics(scan)[name], abs=0.12)


def test_ranks_are_scipys():
    values = np.random.default_rng(0).integers(0, 40, 500).astype(np.uint16)
    np.testing.assert_allclose(_rank(values), stats.rankdata(values) / 500)


def test_partial_correlation_is_that_of_the_residuals(monkeypatch):
    monkeypatch.setattr("twinvae.imaging.anatomy._band", lambda cells: cells)
    own, one, two = np.random.default_rng(0).normal(size=(3, 8, 8, 8))
    own += 0.5 * one - 0.8 * two
    own[0] = np.nan  # cells that are not known are left out
    known = np.isfinite(own)
    design = np.c_[np.ones(known.sum()), two[known]]
    left = [
        x[known] - design @ np.linalg.lstsq(design, x[known], rcond=None)[0] for x in (own, one)
    ]
    assert _partial(own, one, two) == pytest.approx(stats.pearsonr(*left).statistic)
    assert _partial(np.full_like(own, np.nan), one, two) == 0
    assert _partial(np.ones_like(own), one, two) == 0


@pytest.mark.parametrize("value", [0, 700])
def test_a_flat_or_empty_scan_has_numbers_all_the_same(value):
    images = np.full((5, 16, 16), value, np.uint16)
    position = np.linspace(0, 1, 5)
    for mask in (np.ones((5, 16, 16), np.uint8), np.zeros((5, 16, 16), np.uint8)):
        found = anatomy_statistics(np.ones((16, 16, 5), bool), images, mask, position)
        assert all(np.isfinite(v) for v in found.values())
        assert found["white_over_grey"] == found["smoothness"] == 0
    none = anatomy_statistics(np.zeros((4, 4, 4), bool), images, mask, position)
    assert none["shape_correlation"] == 0
