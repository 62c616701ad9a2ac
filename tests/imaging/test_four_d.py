"""`file#N`: one volume of a 4-D file, as the Decathlon ships its contrasts."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from small_brain import make_brain, save

from twinvae.cohort import read_manifest, write_manifest
from twinvae.cohort.manifest import manifest_table
from twinvae.errors import DataError
from twinvae.files import file_and_volume
from twinvae.imaging import ScanFiles, prepare_scan, read_volume
from twinvae.imaging.parts import part_path

AFFINE = np.diag([-1.5, 2.0, 3.0, 1.0])


@pytest.fixture
def four(tmp_path):
    data = np.random.default_rng(0).integers(0, 900, (4, 5, 6, 3))
    save(tmp_path / "v.nii.gz", data, AFFINE)
    return data


@pytest.mark.parametrize(
    ("path", "file", "number"),
    [
        ("a/BRATS_001.nii.gz#3", "a/BRATS_001.nii.gz", 3),
        ("scan.mha#12", "scan.mha", 12),
        ("a#1/scan.nii", "a#1/scan.nii", None),
        ("scan#1.nii", "scan#1.nii", None),
        ("scan.nii#", "scan.nii#", None),
        ("folder#2", "folder#2", None),
    ],
)
def test_what_counts_as_a_volume_number(path, file, number):
    found, which = file_and_volume(path)
    assert (found.as_posix(), which) == (file, number)


def test_each_volume_of_a_nifti_file(four, tmp_path):
    for number in range(3):
        volume = read_volume(tmp_path / f"v.nii.gz#{number}")
        np.testing.assert_array_equal(volume.data, four[..., number])
        np.testing.assert_allclose(volume.affine, AFFINE)
        assert volume.data.dtype == np.float32


def test_scaling_applies_to_a_single_volume_too(four, tmp_path):
    save(tmp_path / "s.nii", four.astype(float), AFFINE, slope=0.5, inter=-3)
    np.testing.assert_allclose(read_volume(tmp_path / "s.nii#1").data, four[..., 1])


def test_each_volume_of_a_metaimage_lies_where_its_nifti_twin_does(four, tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(four[..., i].T) for i in range(3)])
    image.SetSpacing((1.5, 2.0, 3.0, 1.0))
    image.SetOrigin((7.0, -8.0, 9.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "v.mha"))
    affine = np.diag([-1.5, -2.0, 3.0, 1.0])
    affine[:3, 3] = [-7, 8, 9]
    for number in range(3):
        volume = read_volume(tmp_path / f"v.mha#{number}")
        np.testing.assert_array_equal(volume.data, four[..., number])
        np.testing.assert_allclose(volume.affine, affine)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v.nii.gz", r"expected a 3-D volume, found 4-D \(4×5×6×3\); say which .*v\.nii\.gz#0"),
        ("v.nii.gz#3", "expected a volume of #0 to #2, found #3"),
        ("flat.nii#0", "expected a 4-D file for #0, found 3-D"),
        ("flat.mha#0", "expected a 4-D file for #0, found 3-D"),
        ("gone.nii#0", r"gone\.nii: no such file"),
        ("v.png#0", "expected one of .nii"),
    ],
)
def test_volumes_that_are_not_there(four, tmp_path, name, message):
    save(tmp_path / "flat.nii", four[..., 0], AFFINE)
    sitk.WriteImage(sitk.GetImageFromArray(four[..., 0]), str(tmp_path / "flat.mha"))
    with pytest.raises(DataError, match=message):
        read_volume(tmp_path / name)


def test_a_4d_metaimage_asks_which_volume(four, tmp_path):
    image = sitk.JoinSeries([sitk.GetImageFromArray(four[..., i].T) for i in range(3)])
    sitk.WriteImage(image, str(tmp_path / "v.mha"))
    with pytest.raises(DataError, match=r"found 4-D .*; say which volume, as v\.mha#0"):
        read_volume(tmp_path / "v.mha")


def test_a_volume_prepares_as_the_file_it_was_joined_from(tmp_path, recipe):
    brain = make_brain()
    alone = save(tmp_path / "alone.nii", brain.image, brain.affine)
    stack = np.stack([brain.image[::-1], brain.image], axis=-1)
    save(tmp_path / "joined.nii", stack, brain.affine)
    one = prepare_scan(ScanFiles("a", alone), recipe)
    two = prepare_scan(ScanFiles("a", tmp_path / "joined.nii#1"), recipe)
    np.testing.assert_array_equal(one.images, two.images)


def test_the_manifest_keeps_the_number_and_checks_the_file(four, tmp_path):
    row = {"subject": "a", "source": "s", "role": "mixed", "image": str(tmp_path / "v.nii.gz#2")}
    write_manifest(manifest_table([row]), tmp_path / "manifest.tsv")
    assert "\tv.nii.gz#2\t" in (tmp_path / "manifest.tsv").read_text()
    table = read_manifest(tmp_path / "manifest.tsv")
    image = ScanFiles.from_row(table.iloc[0]).image
    np.testing.assert_array_equal(read_volume(image).data, four[..., 2])
    (tmp_path / "v.nii.gz").unlink()
    with pytest.raises(DataError, match=r"v\.nii\.gz#2: no such file"):
        read_manifest(tmp_path / "manifest.tsv")


def test_a_part_notices_when_the_file_of_its_volume_changes(four, tmp_path, recipe):
    scan = ScanFiles("a", tmp_path / "v.nii.gz#1")
    before = part_path(tmp_path, scan, recipe)
    save(tmp_path / "v.nii.gz", four[..., :2], AFFINE)
    assert part_path(tmp_path, scan, recipe) != before
    assert part_path(tmp_path, ScanFiles("a", tmp_path / "v.nii.gz#0"), recipe) != before


def test_a_trailing_axis_of_one_still_needs_no_number(tmp_path):
    nib.save(nib.Nifti1Image(np.arange(24.0).reshape(2, 3, 4, 1), AFFINE), tmp_path / "v.nii")
    assert read_volume(tmp_path / "v.nii").data.shape == (2, 3, 4)
    assert read_volume(tmp_path / "v.nii#0").data.shape == (2, 3, 4)
