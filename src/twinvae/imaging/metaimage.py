"""MetaImage and NRRD by SimpleITK, with the header believed only as far as the bytes bear it out.

SimpleITK's reader takes defaults for what it does not understand and believes any size. Here a
MetaImage's header is also read on its own: it must be complete, its numbers must be numbers, and
the voxels it claims must be in the file. SimpleITK's world is LPS and its arrays are (z, y, x):
both are turned to RAS and (x, y, z) here. Format: itk.org, MetaIO documentation ("MetaImage,
Spatial Object Tags").
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.errors import DataError
from twinvae.imaging.nifti import MOST_VOXELS, check_number

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TIGHTEST_NRRD = 5000  # voxel bytes for each byte of a file, at most
_LONGEST = 16384  # bytes of a header
_KEY = re.compile(r"[ -<>-~]+")  # anything that can be typed: converters add fields
_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_DOUBLE", "MET_LONG_LONG", "MET_ULONG_LONG"), 8),
}
_TIGHTEST = 1100  # zlib packs at most 1,032 bytes into one


def simpleitk() -> Any:
    """SimpleITK, untyped; slow to import, and NIfTI does without it."""
    return importlib.import_module("SimpleITK")


def read_itk(path: Path, number: int | None) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels, float32, and the RAS affine; of a 4-D file, volume ``number`` or all."""
    meta = _read_header(path) if path.suffix.lower() != ".nrrd" else None
    sitk = simpleitk()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    head = sitk.ImageFileReader()
    head.SetFileName(str(path))
    head.ReadImageInformation()
    pixel = str(sitk.GetPixelIDValueAsString(head.GetPixelID()))
    if head.GetNumberOfComponents() != 1 or "complex" in pixel:
        raise DataError(f"{path}: expected one real number a voxel, found {pixel}")
    n = head.GetDimension()
    _check_claim(path, head, meta)
    if number is not None:
        check_number(path, number, head.GetSize())
        head.SetExtractIndex([0, 0, 0, number])
        head.SetExtractSize([*head.GetSize()[:3], 0])
    elif n < 3 or any(size != 1 for size in head.GetSize()[3:]):
        shape = "×".join(str(size) for size in head.GetSize())
        which = f"; say which volume, as {path.name}#0" if n == 4 else ""
        raise DataError(f"{path}: expected a 3-D volume, found {n}-D ({shape}){which}")
    head.SetOutputPixelType(sitk.sitkFloat32)
    image = head.Execute()
    data = sitk.GetArrayFromImage(image).reshape(head.GetSize()[2::-1]).T
    return data, _affine(image)


def itk_in_memory(image: Any, where: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """As ``read_itk``, of a SimpleITK image; ``where`` says whose it is."""
    sitk = simpleitk()
    pixel = str(image.GetPixelIDTypeAsString())
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in pixel:
        raise DataError(f"{where}: expected one real number a voxel, found {pixel}")
    if image.GetDimension() < 3:
        raise DataError(f"{where}: expected a 3-D volume, found {image.GetDimension()}-D")
    data = sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32)).T
    return data, _affine(image)


def _affine(image: Any) -> NDArray[np.float64]:
    """From voxels to mm in RAS, of the first three axes."""
    n = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection(), np.float64).reshape(n, n)[:3, :3]
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    found: NDArray[np.float64] = _LPS_TO_RAS @ affine
    return found


def write_itk(path: Path, data: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    """Write float32, packed; the suffix says which format."""
    sitk = simpleitk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(data, np.float32).T))
    lps = _LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _check_claim(path: Path, head: Any, meta: _Header | None) -> None:
    """Raise ``DataError`` for sizes no file holds, and when SimpleITK read another header."""
    voxels = int(np.prod(head.GetSize()[:3], dtype=object))
    held = path.stat().st_size
    if voxels > MOST_VOXELS:
        raise DataError(f"{path}: expected at most {MOST_VOXELS:,} voxels, found {voxels:,}")
    if meta is None:
        if "data file" not in (head.GetMetaDataKeys() or ()) and voxels > _TIGHTEST_NRRD * held:
            raise DataError(f"{path}: expected {voxels:,} voxels, found {held:,} bytes: truncated?")
        return
    n = len(meta.shape)
    pairs = (
        ("DimSize", meta.shape, head.GetSize()),
        ("ElementSpacing", meta.spacing, head.GetSpacing()),
        ("Offset", meta.origin, head.GetOrigin()),
        ("TransformMatrix", meta.direction, np.reshape(head.GetDirection(), (-1, n))),
    )
    for name, said, read in pairs:
        if not np.allclose(np.asarray(said, float), np.asarray(read), rtol=1e-5, atol=1e-5):
            raise DataError(f"{path}: expected {name} as SimpleITK reads it, {read}, found {said}")


@dataclass(frozen=True)
class _Header:
    """Shape and place of a MetaImage; axes of the world are ITK's (LPS)."""

    shape: tuple[int, ...]
    spacing: NDArray[np.float64]
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]
    """(n, n); column i is the direction of axis i."""


def _read_header(path: Path) -> _Header:
    """Read and check the header; ``DataError`` names the field that cannot be used."""
    fields, length = _fields(path)
    count = _whole(path, fields, "NDims", 1)[0]
    if not 1 <= count <= 5:
        raise DataError(f"{path}: expected NDims from 1 to 5, found {count}")
    shape = tuple(_whole(path, fields, "DimSize", count))
    spacing = _reals(path, fields, ("ElementSpacing", "ElementSize"), count, None)
    if min(shape) < 1 or spacing.min() <= 0:
        raise DataError(
            f"{path}: expected DimSize and ElementSpacing above 0, found {shape} and "
            f"{spacing.tolist()}"
        )
    origin = _reals(path, fields, ("Offset", "Position", "Origin"), count, np.zeros(count))
    names = ("TransformMatrix", "Rotation", "Orientation")
    direction = _reals(path, fields, names, count * count, np.eye(count).ravel())
    matrix = direction.reshape(count, count)
    if abs(matrix @ matrix.T - np.eye(count)).max() > 1e-3:
        raise DataError(
            f"{path}: expected perpendicular unit vectors in TransformMatrix, found "
            f"{matrix.tolist()}"
        )
    _check_size(path, fields, shape, length)
    return _Header(shape, spacing, origin, matrix.T)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The header's `key = value` lines, and how many bytes they take."""
    with path.open("rb") as stream:
        raw = stream.read(_LONGEST)
    fields: dict[str, str] = {}
    start = 0
    while (end := raw.find(b"\n", start)) >= 0:
        line = raw[start:end].decode("latin-1").strip()
        start = end + 1
        key, equals, value = line.partition("=")
        if not line:
            continue
        if not equals or not _KEY.fullmatch(key.strip()) or "\0" in value:
            raise DataError(f"{path}: expected 'key = value' in the header, found {line[:60]!r}")
        if key.strip() in fields:
            raise DataError(f"{path}: expected {key.strip()} once in the header, found it again")
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            return fields, start
    raise DataError(f"{path}: expected a MetaImage header with ElementDataFile, found none")


def _whole(path: Path, fields: dict[str, str], key: str, count: int) -> list[int]:
    words = fields.get(key, "").split()
    if len(words) != count or not all(re.fullmatch(r"\d{1,10}", word) for word in words):
        raise DataError(
            f"{path}: expected {count} whole numbers in {key}, found {fields.get(key, 'none')}"
        )
    return [int(word) for word in words]


def _reals(
    path: Path,
    fields: dict[str, str],
    keys: tuple[str, ...],
    count: int,
    default: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    key = next((name for name in keys if name in fields), None)
    if key is None:
        if default is None:
            raise DataError(f"{path}: expected {keys[0]} in the header, found none")
        return default
    try:
        numbers = np.array([float(word) for word in fields[key].split()], np.float64)
    except ValueError:
        numbers = np.array([np.nan])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise DataError(f"{path}: expected {count} numbers in {key}, found {fields[key]}")
    return numbers


def _check_size(
    path: Path, fields: dict[str, str], shape: tuple[int, ...], header_bytes: int
) -> None:
    """Raise ``DataError``, before anything is allocated, when the voxels cannot be in the file."""
    kind = fields.get("ElementType", "none")
    width = _BYTES.get(kind.removesuffix("_ARRAY"))
    if width is None:
        raise DataError(f"{path}: expected ElementType one of {' '.join(_BYTES)}, found {kind}")
    channels = (
        _whole(path, fields, "ElementNumberOfChannels", 1)[0]
        if ("ElementNumberOfChannels" in fields)
        else 1
    )
    for key in ("BinaryData", "CompressedData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB"):
        if fields.get(key, "True").lower() not in ("true", "false", "1", "0"):
            raise DataError(f"{path}: expected {key} True or False, found {fields[key]}")
    data = fields["ElementDataFile"]
    if data.split()[0] == "LIST" or "%" in data:
        raise DataError(f"{path}: expected one file of voxels, found ElementDataFile {data}")
    if data.upper() == "LOCAL":
        held = path.stat().st_size - header_bytes
    else:
        file = path.parent / data
        if not file.is_file():
            raise DataError(f"{path}: expected its ElementDataFile {data}, found no such file")
        held = file.stat().st_size
    claimed = width * channels * int(np.prod(shape, dtype=object))
    packed = fields.get("CompressedData", "False").lower() in ("true", "1")
    text = fields.get("BinaryData", "True").lower() in ("false", "0")
    allowed = held * _TIGHTEST if packed else held * width if text else held
    if claimed > allowed:
        raise DataError(
            f"{path}: expected {claimed:,} bytes for shape {shape}, found {held:,}: truncated?"
        )
