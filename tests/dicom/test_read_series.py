"""DICOM series as volumes: the same voxels in the same place, and a clear word on broken stacks."""

import re

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.uid import (
    JPEGLSLossless,
    RLELossless,
)

from dicom_files import classic, enhanced, read, uid
from twinvae.dicom import pixels
from twinvae.errors import DataError
from twinvae.imaging import read_volume

AFFINE = np.array([[-0.9, 0, 0, 40], [0, -1.1, 0, 50], [0, 0, 5.0, -30], [0, 0, 0, 1]])


@pytest.fixture
def data():
    return np.random.default_rng(0).integers(0, 3000, (11, 9, 7)).astype(np.uint16)


def rotation(x, y, z):
    turns = []
    for axis, angle in enumerate((x, y, z)):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        turns.append(turn)
    return turns[0] @ turns[1] @ turns[2]


def same_world(volume, data, affine):
    """Whether a volume holds ``data`` where ``affine`` puts it, whichever way its axes run."""
    corners = np.array([[0, 0, 0], [10, 0, 0], [0, 8, 0], [0, 0, 6], [3, 4, 5]], float)
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    found = (world - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    np.testing.assert_allclose(found, np.rint(found), atol=1e-3)
    places = tuple(np.rint(found).astype(int).T)
    expected = data[tuple(corners.astype(int).T)]
    np.testing.assert_allclose(volume.data[places], expected, rtol=1e-6)
    assert sorted(volume.data.shape) == sorted(data.shape)
    assert np.sort(volume.data.ravel()) == pytest.approx(np.sort(data.ravel()), rel=1e-6)


@pytest.mark.parametrize("write", [classic, enhanced])
@pytest.mark.parametrize("angles", [(0, 0, 0), (0.2, -0.3, 0.1), (np.pi / 2, 0, 0), (0, 1.5, 0.4)])
@pytest.mark.parametrize("flip", [1, -1])
def test_voxels_lie_where_the_header_says(tmp_path, data, write, angles, flip):
    affine = AFFINE.copy()
    affine[:3, :3] = rotation(*angles) @ np.diag([-0.9, -1.1, 5.0 * flip])
    path = write(tmp_path / "s.dcm" if write is enhanced else tmp_path / "s", data, affine)
    same_world(read_volume(path), data, affine)


def test_simpleitk_puts_it_in_the_same_place(tmp_path, data):
    affine = AFFINE.copy()
    affine[:3, :3] = rotation(0.2, -0.3, 0.1) @ np.diag([-0.9, -1.1, 5.0])
    folder = classic(tmp_path / "s", data, affine)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    sitk.WriteImage(sitk.ReadImage(names), str(tmp_path / "s.nii"))
    ours, theirs = read_volume(folder), read_volume(tmp_path / "s.nii")
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    np.testing.assert_array_equal(ours.data, theirs.data)


@pytest.mark.parametrize("write", [classic, enhanced])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_every_slice_has_its_own_slope(tmp_path, data, write, dtype):
    data = (data % 200).astype(dtype) - (100 if dtype is np.int16 else 0)
    data = data.astype(dtype)
    slopes = [(0.5 + 0.25 * k, -3.0 * k) for k in range(7)]
    path = write(tmp_path / "s.dcm", data, AFFINE, slopes=slopes)
    real = data * np.array(slopes)[:, 0] + np.array(slopes)[:, 1]
    same_world(read_volume(path), real, AFFINE)


@pytest.mark.parametrize("write", [classic, enhanced])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_series_are_the_same(tmp_path, data, write, syntax):
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls")
    plain = read_volume(write(tmp_path / "plain.dcm", data, AFFINE))
    packed = write(tmp_path / "packed.dcm", data, AFFINE, compress=syntax)
    np.testing.assert_array_equal(read_volume(packed).data, plain.data)


@pytest.mark.parametrize(
    ("compressor", "syntax"),
    [("JPEG", "1.2.840.10008.1.2.4.70"), ("JPEG2000", "1.2.840.10008.1.2.4.90")],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_series_compressed_by_gdcm(tmp_path, data, compressor, syntax, dtype):
    # GDCM's JPEG 2000 encoder aborts on images of a few pixels
    data = np.tile((data % 200), (6, 7, 1)).astype(dtype)
    if dtype is np.int16:
        data -= 100
    classic(tmp_path / "s", data, AFFINE)
    plain = read_volume(tmp_path / "s").data
    for file in sorted((tmp_path / "s").iterdir()):
        ds = read(file)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor(compressor)
        writer.SetFileName(str(tmp_path / "one.dcm"))
        writer.Execute(sitk.GetImageFromArray(ds.pixel_array))
        packed = read(tmp_path / "one.dcm")
        assert packed.file_meta.TransferSyntaxUID == syntax
        ds.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        for name in ("PixelData", "BitsStored", "HighBit"):
            ds[name] = packed[name]
        ds.save_as(file)
    np.testing.assert_array_equal(read_volume(tmp_path / "s").data, plain)


def test_a_syntax_nobody_can_decode_is_named(tmp_path, data):
    def pretend(number, ds):
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.92"

    from pydicom.encaps import encapsulate

    def pack(number, ds):
        pretend(number, ds)
        ds.PixelData = encapsulate([b"no image at all "])

    with pytest.raises(
        DataError, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.4\.92 \(JPEG 2000"
    ):
        read_volume(classic(tmp_path / "s", data, AFFINE, edit=pack))


def _leave(*numbers):
    return lambda number, ds: number not in numbers


def _set(which, **values):
    def edit(number, ds):
        if number == which:
            for name, value in values.items():
                setattr(ds, name, value)

    return edit


def _shear(number, ds):
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, f"{float(y) + 1.5 * number:.8g}", z]


def _move(number, ds):
    if number == 3:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, f"{float(z) + 1.2:.8g}"]


def _every_second(number, ds):
    ds.SpacingBetweenSlices = "5"
    return number % 2 == 0


BROKEN = {
    "missing": (_leave(3), "expected slices every 5 mm, found 10 mm between .*: missing slice"),
    "every second": (_every_second, "every 5 mm .SpacingBetweenSlices., found every 10 mm"),
    "uneven": (_move, r"expected slices every 5 mm, found (6.2|3.8) mm between .*: uneven"),
    "one place": (
        _set(3, ImagePositionPatient=[40, -50, -30]),
        "expected one slice at each place, found 1 of 7",
    ),
    "mixed orientation": (
        _set(3, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        "expected slices of one orientation",
    ),
    "mixed size": (
        _set(2, Rows=7, PixelData=bytes(154)),
        "slices of one size, found 11×9 and 11×7",
    ),
    "mixed spacing": (_set(2, PixelSpacing=[2, 2]), "expected one PixelSpacing"),
    "tilt": (_shear, "gantry tilt"),
    "single": (_leave(1, 2, 3, 4, 5, 6), "expected a stack of slices, found 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_stacks_are_refused_by_name(tmp_path, data, name):
    edit, message = BROKEN[name]
    folder = classic(tmp_path / "s", data, AFFINE, edit=edit)
    with pytest.raises(DataError, match=message) as caught:
        read_volume(folder)
    assert uid("series", "1") in str(caught.value)
    assert "t2_tse_tra" in str(caught.value)


def test_several_series_need_a_name(tmp_path, data):
    classic(tmp_path / "s/a", data, AFFINE)
    classic(tmp_path / "s/b", data[::-1], AFFINE, series="2", SeriesDescription="t1")
    with pytest.raises(DataError, match=r"expected one series, found 2: .*t2_tse_tra, 7 images"):
        read_volume(tmp_path / "s")
    for series, array in (("1", data), ("2", data[::-1])):
        volume = read_volume(tmp_path / f"s#{uid('series', series)}")
        same_world(volume, array, AFFINE)
    with pytest.raises(DataError, match=r"expected series 1\.2\.3, found "):
        read_volume(tmp_path / "s#1.2.3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found no DICOM image"):
        read_volume(tmp_path / "empty")


PIXELS = {
    "colour": (_set(1, PhotometricInterpretation="RGB", SamplesPerPixel=3), "found RGB with 3"),
    "inverted": (_set(1, PhotometricInterpretation="MONOCHROME1"), "found MONOCHROME1"),
    "short": (_set(1, PixelData=bytes(50)), "expected 198 bytes of pixels for 11×9, found 50"),
    "bits": (_set(1, BitsStored=12), "HighBit one below BitsStored"),
    "slope": (_set(1, RescaleSlope=0, RescaleIntercept=0), "a RescaleSlope other than 0"),
    "half a slope": (_set(1, RescaleSlope=2), "expected both RescaleSlope"),
    "no place": (_set(1, ImagePositionPatient=None), "expected ImagePositionPatient, found none"),
    "bent": (_set(1, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "two perpendicular unit"),
}


@pytest.mark.parametrize("name", PIXELS)
def test_odd_slices_are_refused_with_their_file(tmp_path, data, name):
    edit, message = PIXELS[name]
    folder = classic(tmp_path / "s", data, AFFINE, edit=edit)
    with pytest.raises(DataError, match=message) as caught:
        read_volume(folder)
    assert re.search(r"IM0000\d", str(caught.value))


def test_bits_above_the_stored_ones_do_not_count(tmp_path, data):
    def overlay(number, ds):
        stored = np.frombuffer(ds.PixelData, np.uint16) | 0x8000
        ds.PixelData, ds.BitsStored, ds.HighBit = stored.tobytes(), 12, 11

    same_world(read_volume(classic(tmp_path / "s", data, AFFINE, edit=overlay)), data, AFFINE)


def test_a_truncated_file_is_named(tmp_path, data):
    folder = classic(tmp_path / "s", data, AFFINE)
    for keep in (140, 300, 700, 900):
        file = folder / "IM00003"
        whole = file.read_bytes()
        file.write_bytes(whole[:keep])
        with pytest.raises(DataError, match="IM00003"):
            read_volume(folder)
        file.write_bytes(whole)


def test_gdcm_that_hangs_or_breaks_down_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(pixels, "_children", [])
    with pytest.raises(RuntimeError, match="no end in 0 s"):
        pixels.decode_file(tmp_path / "slow.dcm")
    assert pixels._children == []
    monkeypatch.setattr(pixels, "_PATIENCE_S", 60.0)
    pixels._child().kill()
    with pytest.raises(RuntimeError, match="GDCM"):
        pixels.decode_file(tmp_path / "dead.dcm")
    with pytest.raises(RuntimeError, match=r"GDCM: error .*none\.dcm"):
        pixels.decode_file(tmp_path / "none.dcm")
    pixels._end_child()
    assert pixels._children == []


def test_jpeg_ls_needs_no_plugin(tmp_path, data, monkeypatch):
    pytest.importorskip("jpeg_ls")
    packed = classic(tmp_path / "s", data, AFFINE, compress=JPEGLSLossless)
    monkeypatch.setattr(pixels, "_has_plugin", lambda *_: False)
    same_world(read_volume(packed), data, AFFINE)


DAMAGE = {
    "its mark": lambda raw: raw[:128] + b"\xc9" + raw[129:],
    "moved": lambda raw: raw[:30] + b"\xff\x01" + raw[30:],
    "moved back": lambda raw: raw[3:],
    "mark and first group": lambda raw: raw[:128] + bytes(20) + raw[148:],
    "emptied": lambda raw: b"",
    "cut within its identifiers": lambda raw: raw[: raw.index(b"\x08\x00\x18\x00UI", 300)],
    "cut within its first identifier": lambda raw: raw[: raw.index(b"\x08\x00\x16\x00UI") + 20],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_an_end_slice_never_goes_missing_without_a_word(tmp_path, data, how):
    """Without the first or last slice a stack is as even as before: nothing else would tell."""
    folder = classic(tmp_path / "s", data, AFFINE)
    last = max(folder.iterdir(), key=lambda file: read(file).ImagePositionPatient[2])
    last.write_bytes(DAMAGE[how](last.read_bytes()))
    with pytest.raises(DataError, match=last.name):
        read_volume(folder)


def test_what_lies_beside_a_series_is_passed_over(tmp_path, data):
    folder = classic(tmp_path / "s", data, AFFINE)
    (folder / "README").write_text("as the scanner sent it")
    (folder / "IM00001.json").write_text("{}")
    (folder / "empty.txt").touch()
    report = read(folder / "IM00001")
    kind = "1.2.840.10008.5.1.4.1.1.88.11"  # basic text structured report
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = kind
    for name in ("Rows", "Columns", "PixelData"):
        del report[name]
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    same_world(read_volume(folder), data, AFFINE)
