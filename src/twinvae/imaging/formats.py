"""File formats: NIfTI (nibabel), MetaImage and NRRD (SimpleITK), DICOM: all in RAS coordinates.

nibabel's world is RAS; SimpleITK's is LPS and its arrays are (z, y, x): both are turned here, and
nowhere else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from twinvae.dicom import read_series
from twinvae.errors import DataError
from twinvae.imaging.metaimage import MetaHeader, read_header
from twinvae.imaging.nifti import MOST_VOXELS, check_number, read_nifti, write_nifti

Number = int | str | None
Read = Callable[[Path, Number], tuple[NDArray[np.float32], NDArray[np.float64]]]
Write = Callable[[Path, NDArray[np.float32], NDArray[np.float64]], None]

_Function = TypeVar("_Function", Read, Write)

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DICOM = (".dcm", ".ima")
_TIGHTEST = 5000  # voxel bytes for each byte of a file, at most


def reader(path: Path) -> Read:
    """The function that reads files of this suffix, or a folder; ``DataError`` when there is none.

    It takes the path and what follows its `#` (``file_and_volume``): the number of the volume
    wanted of a 4-D file, the SeriesInstanceUID wanted of a DICOM folder, None for all there is.
    """
    if path.suffix.lower() in _DICOM or (path.is_dir() and not _known(path)):
        return _read_dicom
    return _pick(path, _read_nifti, _read_itk)


def writer(path: Path) -> Write:
    """The function that writes files of this suffix; ``DataError`` when there is none."""
    if path.suffix.lower() == ".mhd":
        raise DataError(f"{path}: expected a format of one file, such as .mha, found .mhd")
    return _pick(path, write_nifti, _write_itk)


def _pick(path: Path, nifti: _Function, itk: _Function) -> _Function:
    table = dict.fromkeys((".nii", ".nii.gz"), nifti) | dict.fromkeys(
        (".mha", ".mhd", ".nrrd"), itk
    )
    for suffix, function in table.items():
        if path.name.lower().endswith(suffix):
            return function
    found = path.suffix or "no suffix"
    raise DataError(f"{path}: expected one of {' '.join(table)}, found {found}")


def _known(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"))


def _numbered(path: Path, number: Number) -> int | None:
    if isinstance(number, str):
        raise DataError(f"{path}: expected a DICOM folder for #{number}, found a file")
    return number


def _read_nifti(path: Path, number: Number) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    return read_nifti(path, _numbered(path, number))


def _read_dicom(path: Path, number: Number) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    if isinstance(number, int):
        raise DataError(f"{path}: expected a SeriesInstanceUID after #, found {number}")
    return read_series(path, number)


def _read_itk(path: Path, number: Number) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    number = _numbered(path, number)
    meta = read_header(path) if path.suffix.lower() != ".nrrd" else None
    sitk = _simpleitk()
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
    n = image.GetDimension()
    data = sitk.GetArrayFromImage(image).reshape(head.GetSize()[2::-1]).T
    affine = np.eye(4)
    direction = np.array(image.GetDirection(), np.float64).reshape(n, n)[:3, :3]
    affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    return data, _LPS_TO_RAS @ affine


def _check_claim(path: Path, head: Any, meta: MetaHeader | None) -> None:
    """Raise ``DataError`` for sizes no file holds, and when SimpleITK read another header."""
    voxels = int(np.prod(head.GetSize()[:3], dtype=object))
    held = path.stat().st_size
    if voxels > MOST_VOXELS:
        raise DataError(f"{path}: expected at most {MOST_VOXELS:,} voxels, found {voxels:,}")
    if meta is None:
        if "data file" not in (head.GetMetaDataKeys() or ()) and voxels > _TIGHTEST * held:
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
