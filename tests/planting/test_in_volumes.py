"""A lesion planted in a whole scan."""

import numpy as np
import pytest

from twinvae.planting import plant_in_volume

SPACING = (2.0, 2.0, 5.0)


@pytest.fixture(scope="module")
def scan():
    """An ellipsoid of brain at 100 with a ventricle, in thick slices."""
    x, y, z = np.ogrid[-40:41, -45:46, -14:15]
    brain = (x / 34) ** 2 + (y / 40) ** 2 + (z / 12) ** 2 < 1
    ventricle = (x / 6) ** 2 + (y / 12) ** 2 + (z / 3) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 2, brain.shape)
    return (100 + noise) * brain, brain, ventricle


def test_same_state_same_lesion_and_inputs_are_left_alone(scan):
    image, brain, _ = scan
    before = image.copy()
    (a, m), (b, n) = (
        plant_in_volume(image, brain, SPACING, np.random.default_rng(4)) for _ in range(2)
    )
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(m, n)
    np.testing.assert_array_equal(image, before)
    assert a.dtype == np.float32


@pytest.mark.parametrize(("contrast", "sign"), [("T2w", 1), ("FLAIR", 1), ("T1w", -1)])
def test_lesions_lie_in_the_brain_and_have_the_contrasts_sign(scan, contrast, sign):
    image, brain, _ = scan
    rng = np.random.default_rng(1)
    for _ in range(8):
        lesioned, mask = plant_in_volume(image, brain, SPACING, rng, contrast=contrast)
        assert mask.any()
        assert not (mask & ~brain).any()
        np.testing.assert_array_equal(lesioned[~brain], 0)
        edge = sign * np.percentile(sign * (lesioned - image)[mask], 75)
        assert sign * edge > 10


def test_size_is_what_was_asked_for_in_mm(scan):
    image, brain, _ = scan
    rng = np.random.default_rng(2)
    sizes = []
    for _ in range(15):
        mask = plant_in_volume(image, brain, SPACING, rng, diameter_mm=(24, 24))[1]
        sizes.append(np.cbrt(6 / np.pi * mask.sum() * np.prod(SPACING)))
    assert np.median(sizes) == pytest.approx(24, rel=0.15)


def test_csf_stays_as_it_is(scan):
    image, brain, ventricle = scan
    bright, dark = (np.where(ventricle, value, image) for value in (400.0, 10.0))
    rng = np.random.default_rng(3)
    for _ in range(6):
        t2, _ = plant_in_volume(bright, brain, SPACING, rng, contrast="T2w")
        flair, mask = plant_in_volume(dark, brain, SPACING, rng, contrast="FLAIR")
        assert (t2[ventricle] >= 399).all()
        np.testing.assert_array_equal(flair[ventricle][~mask[ventricle]], 10)
        assert mask[ventricle].sum() <= 1 + 0.1 * ventricle.sum()


def test_an_empty_brain_is_refused(scan):
    image, brain, _ = scan
    with pytest.raises(ValueError, match="brain: expected a mask of shape"):
        plant_in_volume(image, brain & False, SPACING, np.random.default_rng(0))
