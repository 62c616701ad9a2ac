"""File formats: NIfTI by nibabel, MetaImage and NRRD by SimpleITK, all in RAS world coordinates.

nibabel's world is RAS; SimpleITK's is LPS and its arrays are (z, y, x): both are turned here, and
nowhere else.
"""

from __future__ import annotations

import gzip
import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np
from numpy.typing import NDArray

from twinvae.errors import DataError

Read = Callable[[Path, int | None], tuple[NDArray[np.float32], NDArray[np.float64]]]
Write = Callable[[Path, NDArray[np.float32], NDArray[np.float64]], None]

_Function = TypeVar("_Function", Read, Write)

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_nib: Any = nibabel  # untyped
_HEADER_SIZES: dict[int, Any] = {348: _nib.Nifti1Image, 540: _nib.Nifti2Image}


def reader(path: Path) -> Read:
    """The function that reads files of this suffix; ``DataError`` when there is none.

    It takes the file and, for a 4-D one, the number of the volume wanted (None: all there is).
    """
    return _pick(path, _read_nifti, _read_itk)


def writer(path: Path) -> Write:
    """The function that writes files of this suffix; ``DataError`` when there is none."""
    if path.suffix.lower() == ".mhd":
        raise DataError(f"{path}: expected a format of one file, such as .mha, found .mhd")
    return _pick(path, _write_nifti, _write_itk)


def _pick(path: Path, nifti: _Function, itk: _Function) -> _Function:
    table = dict.fromkeys((".nii", ".nii.gz"), nifti) | dict.fromkeys(
        (".mha", ".mhd", ".nrrd"), itk
    )
    for suffix, function in table.items():
        if path.name.lower().endswith(suffix):
            return function
    found = path.suffix or "no suffix"
    raise DataError(f"{path}: expected one of {' '.join(table)}, found {found}")


def _read_nifti(path: Path, number: int | None) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)  # whole, so that its checksum is checked
    if len(raw) < 348:
        raise DataError(f"{path}: expected a NIfTI header, found {len(raw)} bytes")
    sizes = {int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big")}
    kinds = [kind for size, kind in _HEADER_SIZES.items() if size in sizes]
    if not kinds:
        raise DataError(f"{path}: expected a NIfTI file, found something else")
    header = kinds[0].header_class.from_fileobj(io.BytesIO(raw))
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: expected one real number a voxel, found {dtype}")
    shape = tuple(int(n) for n in header.get_data_shape())
    claimed = int(header["vox_offset"]) + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if min(shape, default=0) < 1 or claimed > len(raw):
        raise DataError(
            f"{path}: expected {claimed} bytes for shape {shape}, found {len(raw)}: truncated?"
        )
    image = kinds[0].from_bytes(raw)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        if number is None:
            data = image.get_fdata(dtype=np.float32, caching="unchanged")
        else:
            _check_number(path, number, shape)
            data = np.asarray(image.dataobj[..., number], np.float32)
    return data, np.asarray(image.affine, np.float64)


def _write_nifti(path: Path, data: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    image = _nib.Nifti1Image(np.asarray(data, np.float32), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    _nib.save(image, path)


def _read_itk(path: Path, number: int | None) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    sitk = _simpleitk()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    head = sitk.ImageFileReader()
    head.SetFileName(str(path))
    head.ReadImageInformation()
    pixel = str(sitk.GetPixelIDValueAsString(head.GetPixelID()))
    if head.GetNumberOfComponents() != 1 or "complex" in pixel:
        raise DataError(f"{path}: expected one real number a voxel, found {pixel}")
    n = head.GetDimension()
    if number is not None:
        _check_number(path, number, head.GetSize())
        head.SetExtractIndex([0, 0, 0, number])
        head.SetExtractSize([*head.GetSize()[:3], 0])
    elif n < 3 or any(size != 1 for size in head.GetSize()[3:]):
        shape = "×".join(str(size) for size in head.GetSize())
        which = f"; say which volume, as {path.name}#0" if n == 4 else ""
        raise DataError(f"{path}: expected a 3-D volume, found {n}-D ({shape}){which}")
    head.SetOutputPixelType(sitk.sitkFloat32)
    image = head.Execute()
    n = image.GetDimension()
    data = sitk.GetArrayFromImage(image).reshape(head.GetSize()[2::-1]).T
    affine = np.eye(4)
    direction = np.array(image.GetDirection(), np.float64).reshape(n, n)[:3, :3]
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return data, _LPS_TO_RAS @ affine


def _check_number(path: Path, number: int, shape: Sequence[int]) -> None:
    """Raise ``DataError`` unless there is a volume of this number."""
    if len(shape) != 4:
        raise DataError(f"{path}: expected a 4-D file for #{number}, found {len(shape)}-D")
    if number >= shape[3]:
        raise DataError(f"{path}: expected a volume of #0 to #{shape[3] - 1}, found #{number}")


def _simpleitk() -> Any:
    """SimpleITK, untyped; slow to import, and NIfTI does without it."""
    return importlib.import_module("SimpleITK")


def _write_itk(path: Path, data: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    sitk = _simpleitk()
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(data, np.float32).T))
    lps = _LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=True)
