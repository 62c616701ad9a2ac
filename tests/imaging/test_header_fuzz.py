"""Damaged headers: a clear refusal, or exactly the volume that the header, as it now is, describes.

The oracles read shape and place out of the bytes on their own, by the formats' documents.
"""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_brain import save

from dicom_files import classic, read
from header_oracles import mha_says, nifti_says
from twinvae.errors import DataError, TwinvaeError
from twinvae.imaging import read_volume

FUZZ = settings(max_examples=150, deadline=5000, suppress_health_check=list(HealthCheck))
SHAPE = (5, 6, 7)
ROOM = 2**20  # no volume read here may be larger, in voxels
DATA = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
TILTED = np.array([[-2, 0.1, 0, 5], [0.1, 2, 0.2, -7], [0, -0.2, 3, 9], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def nifti(folder):
    return bytearray(save(folder / "good.nii", DATA, TILTED).read_bytes())


@pytest.fixture(scope="module")
def mha(folder):
    image = sitk.GetImageFromArray(DATA.T)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((4.0, -5.0, 6.0))
    sitk.WriteImage(image, str(folder / "good.mha"))
    return bytearray((folder / "good.mha").read_bytes())


def read_or_refuse(path):
    """The volume, or None; anything but a TwinvaeError is a failure."""
    try:
        volume = read_volume(path)
    except TwinvaeError as error:
        assert path.name in str(error)  # noqa: PT017
        return None
    assert volume.data.size <= ROOM
    assert np.isfinite(volume.data).all()
    assert np.isfinite(volume.affine).all()
    return volume


@FUZZ
@given(changes=st.dictionaries(st.integers(0, 351), st.integers(0, 255), min_size=1, max_size=4))
def test_nifti_headers(folder, nifti, changes):
    raw = bytearray(nifti)
    for place, value in changes.items():
        raw[place] = value
    path = folder / "fuzz.nii"
    path.write_bytes(bytes(raw))
    volume = read_or_refuse(path)
    if volume is not None:
        shape, affine = nifti_says(raw)
        assert list(volume.data.shape) == shape
        if affine is not None:
            np.testing.assert_allclose(volume.affine[:3], affine, rtol=1e-4, atol=1e-4)


@settings(FUZZ, max_examples=60)
@given(
    field=st.sampled_from([(40, "h", 8), (70, "h", 2), (76, "f", 8), (108, "f", 3), (252, "h", 2)]),
    number=st.integers(0, 7),
    value=st.sampled_from([0, 1, -1, 2, 3, 7, 32767, -32768, float("nan"), float("inf"), 1e30]),
)
def test_nifti_fields_at_their_extremes(folder, nifti, field, number, value):
    start, kind, count = field
    if kind == "h" and not -32768 <= value <= 32767:
        value = 32767
    raw = bytearray(nifti)
    place = start + struct.calcsize(kind) * (number % count)
    struct.pack_into(f"<{kind}", raw, place, int(value) if kind == "h" else value)
    (folder / "fuzz.nii").write_bytes(bytes(raw))
    volume = read_or_refuse(folder / "fuzz.nii")
    if volume is not None:
        assert list(volume.data.shape) == nifti_says(raw)[0]


@settings(FUZZ, max_examples=60)
@given(keep=st.floats(0, 0.999), flip=st.one_of(st.none(), st.floats(0, 0.999)))
def test_gzip_streams_cut_or_changed_anywhere(folder, nifti, keep, flip):
    packed = bytearray(gzip.compress(bytes(nifti), mtime=0))
    path = folder / "fuzz.nii.gz"
    path.write_bytes(bytes(packed[: int(keep * len(packed))]))
    assert read_or_refuse(path) is None
    if flip is not None:
        packed[int(flip * len(packed))] ^= 0x10
        path.write_bytes(bytes(packed))
        volume = read_or_refuse(path)
        assert volume is None or (volume.data == DATA).all()  # the gzip header's own remarks


def test_a_gzip_bomb_is_not_unpacked(folder, nifti):
    raw = bytearray(nifti)
    struct.pack_into("<3h", raw, 42, 32767, 32767, 32767)
    (folder / "bomb.nii.gz").write_bytes(gzip.compress(bytes(raw) + bytes(50_000_000)))
    with pytest.raises(DataError, match=r"shape \(32767, 32767, 32767\)"):
        read_volume(folder / "bomb.nii.gz")


@FUZZ
@given(data=st.data())
def test_metaimage_headers(folder, mha, data):
    end = mha.index(b"LOCAL") + 6
    raw = bytearray(mha)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, end - 1))
        raw[place] = data.draw(
            st.one_of(st.integers(0, 255), st.sampled_from(b"0123456789 .-e=\n"))
        )
    (folder / "fuzz.mha").write_bytes(bytes(raw))
    volume = read_or_refuse(folder / "fuzz.mha")
    if volume is not None:
        shape, spacing, origin = mha_says(raw)
        assert list(volume.data.shape) == shape
        np.testing.assert_allclose(volume.spacing_mm, spacing, rtol=1e-5)
        np.testing.assert_allclose(volume.affine[:3, 3] * (-1, -1, 1), origin, atol=1e-5)


@settings(FUZZ, max_examples=40)
@given(keep=st.floats(0, 0.999))
def test_metaimages_cut_anywhere(folder, mha, keep):
    (folder / "cut.mha").write_bytes(bytes(mha[: int(keep * len(mha))]))
    assert read_or_refuse(folder / "cut.mha") is None


@pytest.mark.parametrize("compressed", [False, True])
def test_a_metaimage_that_claims_too_much_is_refused_before_it_is_read(folder, compressed):
    image = sitk.GetImageFromArray(DATA.T)
    sitk.WriteImage(image, str(folder / "huge.mha"), useCompression=compressed)
    raw = (folder / "huge.mha").read_bytes().replace(b"DimSize = 5 6 7", b"DimSize = 30000 30000 9")
    (folder / "huge.mha").write_bytes(raw)
    with pytest.raises(DataError, match="expected 16,200,000,000 bytes for shape"):
        read_volume(folder / "huge.mha")


@pytest.fixture(scope="module")
def series(folder):
    slopes = [(2.0, 5.0 + k) for k in range(SHAPE[2])]
    classic(folder / "series", DATA, TILTED_DICOM, slopes=slopes)
    return folder / "series", read_volume(folder / "series")


TILTED_DICOM = np.diag([-1.5, -2.0, 3.0, 1.0])
NEEDED = {"SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"}
NEEDED |= {"Rows", "Columns", "PixelData", "RescaleSlope", "RescaleIntercept", "BitsAllocated"}


def test_dicom_elements_taken_away(series):
    """From one slice, then from all: the same volume, or a word that names what is gone."""
    folder, whole = series
    files = sorted(folder.iterdir())
    kept = {file: file.read_bytes() for file in files}
    for element in read(files[0]):
        for some in (files[2:3], files):
            for file in some:
                ds = read(file)
                del ds[element.tag]
                ds.save_as(file, enforce_file_format=False)
            try:
                volume = read_volume(folder)
                np.testing.assert_allclose(volume.affine, whole.affine)
                if not element.keyword.startswith("Rescale"):
                    np.testing.assert_array_equal(volume.data, whole.data)
                assert element.keyword not in NEEDED
            except DataError as error:
                assert "series" in str(error) or "IM0" in str(error)  # noqa: PT017
            finally:
                for file in some:
                    file.write_bytes(kept[file])


@settings(FUZZ, max_examples=100)
@given(changes=st.dictionaries(st.floats(0, 0.8), st.integers(0, 255), min_size=1, max_size=4))
def test_dicom_headers(series, changes):
    """Bytes changed in one slice's header never bend the volume without a word."""
    folder, whole = series
    file = sorted(folder.iterdir())[3]
    kept = file.read_bytes()
    raw = bytearray(kept)
    head = kept.index(b"\xe0\x7f\x10\x00")
    for place, value in changes.items():
        raw[132 + int(place * (head - 132) / 0.8)] = value
    file.write_bytes(bytes(raw))
    try:
        volume = read_or_refuse(folder)
        if volume is not None:
            assert volume.data.shape == whole.data.shape
            np.testing.assert_allclose(volume.affine, whole.affine, atol=0.2)
    finally:
        file.write_bytes(kept)
