"""Reading and writing: the same world from every format, and a clear word on bad files."""

import gzip
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from small_brain import save

from twinvae.errors import DataError
from twinvae.imaging import Volume, read_brain_mask, read_tumour_mask, read_volume, write_volume

TILTED = np.array(
    [[1.8, 0.3, 0.1, -30.0], [-0.3, 1.9, 0.2, -40.0], [-0.1, -0.2, 2.9, 12.0], [0, 0, 0, 1]]
)


@pytest.fixture
def array():
    return np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_written_volumes_read_back_the_same(array, tmp_path, suffix):
    q, _ = np.linalg.qr(TILTED[:3, :3])
    affine = np.eye(4)
    affine[:3, :3] = q * [1.0, 2.0, 3.5]
    affine[:3, 3] = [-10, 20, 30]
    write_volume(Volume(array, affine), tmp_path / f"v{suffix}")
    back = read_volume(tmp_path / f"v{suffix}")
    np.testing.assert_array_equal(back.data, array)
    assert back.data.dtype == np.float32
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    np.testing.assert_allclose(back.spacing_mm, (1.0, 2.0, 3.5), atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [f"v{suffix}"]


def test_a_gzipped_volume_has_no_date_and_any_gzip_reads_it(array, tmp_path):
    for name in ("one.nii.gz", "two.nii.gz", "plain.nii"):
        write_volume(Volume(array, np.eye(4)), tmp_path / name)
    packed = (tmp_path / "one.nii.gz").read_bytes()
    assert packed == (tmp_path / "two.nii.gz").read_bytes()
    assert packed[:2] == b"\x1f\x8b"
    assert packed[4:8] == bytes(4)  # RFC 1952: no time
    assert gzip.decompress(packed) == (tmp_path / "plain.nii").read_bytes()


def test_simpleitk_and_nibabel_agree_on_where_voxels_are(array, tmp_path):
    save(tmp_path / "v.nii", array, np.diag([-1.0, 2, 3, 1]), np.float32)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "v.nii")), str(tmp_path / "v.mha"))
    nifti, meta = read_volume(tmp_path / "v.nii"), read_volume(tmp_path / "v.mha")
    np.testing.assert_array_equal(nifti.data, meta.data)
    np.testing.assert_allclose(nifti.affine, meta.affine, atol=1e-6)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "i4", "f4", ">f4", "f8"])
def test_data_types_versions_and_byte_orders(tmp_path, kind, dtype):
    data = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    header = kind.header_class(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    nib.save(kind(data, np.eye(4), header), tmp_path / "v.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "v.nii").data, data.astype(np.float32))


def test_scaling_slope_and_trailing_axes(tmp_path):
    data = np.arange(24.0).reshape(2, 3, 4)
    save(tmp_path / "v.nii", data, np.eye(4), slope=0.5, inter=-3)
    np.testing.assert_allclose(read_volume(tmp_path / "v.nii").data, data)
    save(tmp_path / "w.nii", data[..., None, None], np.eye(4))
    assert read_volume(tmp_path / "w.nii").data.shape == (2, 3, 4)


def test_a_metaimage_with_a_trailing_axis(tmp_path, array):
    image = sitk.GetImageFromArray(array[None], isVector=False)
    assert image.GetDimension() == 4
    sitk.WriteImage(image, str(tmp_path / "v.mha"))
    np.testing.assert_array_equal(read_volume(tmp_path / "v.mha").data, array.T)


def _truncated_gz(path):
    path.write_bytes(path.read_bytes()[:-40])


def _flipped_bit(path):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    packed = bytearray(gzip.compress(bytes(raw)))
    packed[-6] ^= 1  # the checksum
    path.write_bytes(bytes(packed))


def _cut_payload(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-40]))


def _huge_claim(path):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_truncated_gz, "damage"),
        (_flipped_bit, "damage .*CRC"),
        (_cut_payload, r"expected \d+ bytes for shape \(5, 6, 7\), found \d+: truncated\?"),
        (_huge_claim, r"expected \d+ bytes for shape \(32767, 32767, 32767\)"),
        (lambda p: p.write_bytes(b""), "found 0 bytes"),
        (lambda p: p.write_bytes(b"x" * 4000), "expected a NIfTI file, found something else"),
    ],
)
def test_damaged_nifti(array, tmp_path, harm, message):
    path = tmp_path / "v.nii.gz"
    save(path, array, np.eye(4), np.float32)
    harm(path)
    with pytest.raises(DataError, match=rf"v\.nii\.gz: .*{message}"):
        read_volume(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_metaimage(array, tmp_path, compressed):
    path = tmp_path / "v.mha"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=compressed)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"v\.mha: .*(damage|truncated)"):
        read_volume(path)


def _nan(array):
    array = array.copy()
    array[1, 2, 3], array[0, 0, 0] = np.nan, np.inf
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan, "expected finite voxels, found 2 NaN or infinite"),
        (lambda a: a * 0 + 7, "expected an image, found 7 in every voxel"),
        (lambda a: np.stack([a, a], -1), "expected a 3-D volume, found 4-D (5×6×7×2)"),
        (lambda a: a[0], "expected a 3-D volume, found 2-D (6×7)"),
        (lambda a: np.float64(1e300) * a, "NaN or infinite"),
    ],
)
def test_content_that_is_no_scan(array, tmp_path, change, message):
    data = change(array)
    save(tmp_path / "v.nii.gz", data, np.eye(4), data.dtype)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_volume(tmp_path / "v.nii.gz")
    assert str(tmp_path / "v.nii.gz") in str(caught.value)


def test_colour_complex_and_flat_metaimages(tmp_path, array):
    rgb = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    save(tmp_path / "complex.nii", array, np.eye(4), np.complex64)
    for name in ("rgb.nii", "complex.nii"):
        with pytest.raises(DataError, match=f"{name}: expected one real number a voxel"):
            read_volume(tmp_path / name)
    vectors = sitk.GetImageFromArray(np.zeros((3, 3, 3, 2), np.float32), isVector=True)
    sitk.WriteImage(vectors, str(tmp_path / "v.mha"))
    with pytest.raises(DataError, match="expected one real number a voxel, found vector"):
        read_volume(tmp_path / "v.mha")
    sitk.WriteImage(sitk.GetImageFromArray(array[0]), str(tmp_path / "flat.mha"))
    with pytest.raises(DataError, match=r"found 2-D \(7×6\)"):
        read_volume(tmp_path / "flat.mha")
    pair = sitk.GetImageFromArray(np.stack([array, array]), isVector=False)
    sitk.WriteImage(pair, str(tmp_path / "four.mha"))
    with pytest.raises(DataError, match=r"found 4-D \(7×6×5×2\)"):
        read_volume(tmp_path / "four.mha")


@pytest.mark.parametrize("bad", [np.zeros((3, 3)), np.diag([1.0, np.nan, 1]), np.ones((3, 3))])
def test_affines_that_place_nothing(array, tmp_path, bad):
    save(tmp_path / "v.nii", array, np.eye(4), np.float32)
    raw = bytearray((tmp_path / "v.nii").read_bytes())
    raw[254:256] = np.array([1], "<i2").tobytes()  # sform is what counts
    raw[280:328] = np.c_[bad, np.zeros(3)].astype("<f4").tobytes()
    (tmp_path / "v.nii").write_bytes(bytes(raw))
    with pytest.raises(DataError, match=r"v\.nii: expected .* affine"):
        read_volume(tmp_path / "v.nii")


def test_missing_files_and_unknown_suffixes(tmp_path, array):
    with pytest.raises(DataError, match=r"gone\.nii: no such file"):
        read_volume(tmp_path / "gone.nii")
    with pytest.raises(DataError, match=r"expected one of \.nii \.nii\.gz .*, found \.png"):
        read_volume(tmp_path / "picture.png")
    with pytest.raises(DataError, match="found no suffix"):
        write_volume(Volume(array, np.eye(4)), tmp_path / "map")
    with pytest.raises(DataError, match="expected a format of one file"):
        write_volume(Volume(array, np.eye(4)), tmp_path / "map.mhd")
    with pytest.raises(DataError, match="affine"):
        write_volume(Volume(array, np.zeros((4, 4))), tmp_path / "map.nii")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(DataError, match=r"folder\.nii: expected a readable image"):
        read_volume(tmp_path / "folder.nii")


@pytest.fixture
def like(array):
    return Volume(array, np.eye(4))


def test_masks_count_every_label(tmp_path, like):
    labels = np.zeros(like.data.shape)
    labels[1, 1], labels[2, 2] = 4, 2
    save(tmp_path / "m.nii", labels, np.eye(4))
    assert read_tumour_mask(tmp_path / "m.nii", like).sum() == 14
    save(tmp_path / "m.nii", labels > 0, np.eye(4), np.float32, slope=None)
    assert read_brain_mask(tmp_path / "m.nii", like).sum() == 14
    save(tmp_path / "m.nii", 255 * (labels > 0), np.eye(4), np.uint8)
    assert read_brain_mask(tmp_path / "m.nii", like).dtype == bool
    save(tmp_path / "m.nii", 0 * labels, np.eye(4), np.uint8)
    assert not read_tumour_mask(tmp_path / "m.nii", like).any()


def test_masks_that_are_refused(tmp_path, like, array):
    path = tmp_path / "m.nii"
    ones = np.ones(array.shape)

    def refused(read, message, data, affine=None):
        save(path, data, np.eye(4) if affine is None else affine, np.float32)
        with pytest.raises(DataError, match=rf"m\.nii: {message}"):
            read(path, like)

    refused(read_brain_mask, "expected a brain mask, found no voxel inside it", 0 * ones)
    refused(read_brain_mask, "expected a mask of zeros and one other value", abs(array))
    refused(read_tumour_mask, "expected a mask of at most 16 whole labels", abs(array))
    refused(read_tumour_mask, "expected a mask of at most 16 whole labels", -ones)
    for read in (read_brain_mask, read_tumour_mask):
        refused(read, r"expected the scan's shape \(5, 6, 7\), found \(5, 6, 6\)", ones[..., 1:])
        refused(read, "expected the scan's affine, found one that", ones, np.diag([-1, 1, 1, 1]))
        refused(read, "expected the scan's affine", ones, np.diag([1, 1, 1.05, 1]))
    nearly = np.eye(4)
    nearly[:3, 3] += 1e-3
    save(path, ones, nearly, np.uint8)
    assert read_brain_mask(path, like).all()
