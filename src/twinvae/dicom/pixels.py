"""Pixels out of one DICOM file, as they are stored; scaling is the caller's.

pydicom decodes what it can: uncompressed and RLE frames itself, JPEG baseline and JPEG 2000 by
Pillow, more where its plug-ins are installed (`pip install twinvae[dicom-codecs]`). JPEG lossless
and JPEG-LS otherwise go through GDCM, which every SimpleITK brings along: a bare copy of the frames
is written for it, without the rescale attributes, for GDCM would apply some of them and not others.

GDCM runs in a process of its own, ``python -m twinvae.dicom.pixels``: on damaged JPEG it may abort
or never return, and then only that process does. One child serves all files: it reads a DICOM
file's path from its input, writes the pixels beside it as .npy, and answers `ok` or what SimpleITK
said. It ends when its input does.
"""

from __future__ import annotations

import atexit
import importlib
import select
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.dicom.headers import pydicom, quiet
from twinvae.errors import DataError

Stored = NDArray[Any]

_SMALL = 64 * 2**20  # bytes that may be decoded without asking how they could be packed so tight
_TIGHTEST = 5000  # decoded bytes for each packed one, at most
_PATIENCE_S = 60.0  # SimpleITK's import and the largest file that was tried take 3
_lock = threading.Lock()
_children: list[subprocess.Popen[str]] = []


def decode(dataset: Any, file: Path) -> Stored:
    """(frames, rows, columns) of whole or real numbers; ``DataError`` names what cannot be read."""
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise DataError(f"{file}: expected TransferSyntaxUID, found none")
    _check_kind(dataset, file)
    _check_size(dataset, syntax, file)
    try:
        with quiet():
            pixels = _decode(dataset, syntax)
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{file}: expected pixels that can be decoded, found transfer syntax {syntax} "
            f"({getattr(syntax, 'name', 'unknown')}): {said}"
        ) from error
    frames = int(dataset.get("NumberOfFrames") or 1)
    shape = (frames, int(dataset.Rows), int(dataset.Columns))
    if pixels.size != np.prod(shape, dtype=object):
        raise DataError(f"{file}: expected {shape} pixels, found {pixels.shape}")
    return _stored_bits(pixels.reshape(shape), dataset)


def _decode(dataset: Any, syntax: Any) -> Stored:
    decoding = importlib.import_module("pydicom.pixels")
    if not syntax.is_encapsulated or _has_plugin(decoding, syntax):
        return np.asarray(decoding.pixel_array(dataset))
    if syntax not in _BY_GDCM:
        raise NotImplementedError("no decoder; try pip install twinvae[dicom-codecs]")
    return _by_gdcm(dataset, syntax)


def _has_plugin(decoding: Any, syntax: Any) -> bool:
    try:
        return bool(decoding.get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _by_gdcm(dataset: Any, syntax: Any) -> Stored:
    """Frames decoded by SimpleITK's GDCM from a copy that says nothing but how they are stored."""
    dicom = pydicom()
    several = int(dataset.get("NumberOfFrames") or 1) > 1
    bare = dicom.Dataset()
    bare.SOPClassUID = dicom.uid.UID(_CAPTURES[several])
    bare.SOPInstanceUID = dicom.uid.generate_uid()
    for keyword in _KEPT:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.file_meta = dicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = syntax
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    with tempfile.TemporaryDirectory(prefix="twinvae-") as folder:
        path = Path(folder) / "frames.dcm"
        bare.save_as(path, enforce_file_format=True)
        return decode_file(path)


# Secondary Capture, and Multi-frame Grayscale Word Secondary Capture (PS3.4 B.5): plain pixels.
_CAPTURES = {False: "1.2.840.10008.5.1.4.1.1.7", True: "1.2.840.10008.5.1.4.1.1.7.3"}
_BY_GDCM = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91))
_KEPT = (
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
)


def _check_kind(dataset: Any, file: Path) -> None:
    """Raise ``DataError`` unless each pixel is one number that grows with the signal."""
    kinds = [name for name in _PIXELS if name in dataset]
    if len(kinds) != 1:
        raise DataError(f"{file}: expected PixelData, found {' and '.join(kinds) or 'none'}")
    photometric = str(dataset.get("PhotometricInterpretation", "none"))
    if dataset.get("SamplesPerPixel", 1) != 1 or photometric != "MONOCHROME2":
        raise DataError(
            f"{file}: expected one number a pixel (MONOCHROME2), found {photometric} with "
            f"{dataset.get('SamplesPerPixel')} samples"
        )
    if kinds != ["PixelData"]:
        return
    for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        if not isinstance(dataset.get(keyword), int):
            raise DataError(f"{file}: expected a whole {keyword}, found {dataset.get(keyword)}")
    allocated, stored, high = dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit
    if (
        allocated not in (8, 16, 32)
        or not 1 <= stored <= allocated
        or high != stored - 1
        or dataset.PixelRepresentation not in (0, 1)
    ):
        raise DataError(
            f"{file}: expected 8, 16 or 32 bits with HighBit one below BitsStored, found "
            f"{allocated} allocated, {stored} stored, high bit {high}, "
            f"representation {dataset.PixelRepresentation}"
        )


_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def _check_size(dataset: Any, syntax: Any, file: Path) -> None:
    """Raise ``DataError``, before anything is allocated, when the pixels cannot be in the file."""
    packed = len(next(dataset[name].value for name in _PIXELS if name in dataset) or b"")
    count = int(dataset.get("NumberOfFrames") or 1) * int(dataset.Rows) * int(dataset.Columns)
    wide = 4 if "FloatPixelData" in dataset else 8 if "DoubleFloatPixelData" in dataset else None
    claimed = count * (wide or int(dataset.BitsAllocated) // 8)
    allowed = packed
    if syntax.is_encapsulated:
        allowed = max(_SMALL, _TIGHTEST * packed) if packed else 0
    if claimed > allowed:
        raise DataError(
            f"{file}: expected {claimed:,} bytes of pixels for {dataset.Columns}×{dataset.Rows}, "
            f"found {packed:,}: truncated?"
        )


def _stored_bits(pixels: Stored, dataset: Any) -> Stored:
    """Without what may lie in the bits above BitsStored (old overlays, PS3.5 8.1.1)."""
    if "PixelData" not in dataset or pixels.dtype.kind not in "iu":
        return pixels
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if stored == allocated or pixels.dtype.itemsize * 8 != allocated:
        return pixels
    unsigned = pixels.view(f"u{allocated // 8}")
    if not dataset.PixelRepresentation:
        kept: Stored = unsigned & np.asarray((1 << stored) - 1, unsigned.dtype)
        return kept
    moved: Stored = (unsigned << np.asarray(allocated - stored, unsigned.dtype)).view(
        f"i{allocated // 8}"
    )
    return np.asarray(moved >> (allocated - stored))


def decode_file(path: Path) -> NDArray[Any]:
    """The pixels of a DICOM file; ``RuntimeError`` when GDCM fails, aborts or takes too long."""
    with _lock:
        child = _child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(f"{path}\n")
            child.stdin.flush()
            ready = select.select([child.stdout], [], [], _PATIENCE_S)[0]
            answer = child.stdout.readline().strip() if ready else f"no end in {_PATIENCE_S:g} s"
        except BrokenPipeError:
            answer = ""
        if answer == "ok":
            return np.asarray(np.load(path.with_suffix(".npy"), allow_pickle=False))
        if not answer.startswith("error"):
            _end_child()
        raise RuntimeError(f"GDCM: {answer or 'it broke down'}")


def _child() -> subprocess.Popen[str]:
    if _children and _children[0].poll() is not None:
        _end_child()
    if not _children:
        child = subprocess.Popen(
            [sys.executable, "-m", "twinvae.dicom.pixels"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        _children.append(child)
    return _children[0]


@atexit.register
def _end_child() -> None:
    """End the process, whatever it is at, and close what led to it."""
    while _children:
        child = _children.pop()
        child.kill()
        child.communicate()


def _serve() -> None:
    sitk: Any = importlib.import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        try:
            pixels = sitk.GetArrayFromImage(reader.Execute())
            np.save(path.with_suffix(".npy"), pixels)
            print("ok", flush=True)
        except RuntimeError as error:
            print("error", " ".join(str(error).split())[-200:], flush=True)


if __name__ == "__main__":
    _serve()
