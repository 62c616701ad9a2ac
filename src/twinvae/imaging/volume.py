"""One volume: voxels, and where they lie in the world. Reading, writing, turning, comparing.

The world's axes are right, anterior, superior (RAS) whatever the file's format. A turn is nibabel's
orientation, float64 (3, 2): for each axis of the file's array, the axis of the RAS+ array it
becomes, and ±1 for its direction. Turning flips and swaps axes; no voxel changes its value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import nibabel
import numpy as np
from numpy.typing import NDArray

from twinvae.dicom import read_series
from twinvae.errors import DataError, TwinvaeError
from twinvae.files import atomic_path, file_and_volume
from twinvae.imaging.metaimage import read_itk, write_itk
from twinvae.imaging.nifti import read_nifti, write_nifti

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Affine = NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_Number = int | str | None
_Read = Callable[[Path, _Number], tuple[Floats, Affine]]
_Write = Callable[[Path, Floats, Affine], None]
_Function = TypeVar("_Function", _Read, _Write)

RAS: NDArray[np.float64] = np.array([[0, 1], [1, 1], [2, 1]], float)
"""The turn that changes nothing."""
_nib: Any = nibabel.orientations  # untyped
_NIFTI = (".nii", ".nii.gz")
_ITK = (".mha", ".mhd", ".nrrd")
_DICOM = (".dcm", ".ima")
_SAME_SIDE = 0.01  # relative difference up to which two voxel sizes are the same
_ODD = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's constants
_ODD2 = np.uint64(0xBF58476D1CE4E5B9)
_MAX_LABELS = 16  # a tumour mask with more different values than this is an image


@dataclass(frozen=True)
class Volume:
    """A scan or a map.

    ``data``: float32 (X, Y, Z), in the file's own orientation. ``affine``: float64 (4, 4), from
    voxel indices to mm in the world, whose axes are right, anterior, superior (RAS).
    """

    data: Floats
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along each axis of ``data``, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def read_volume(path: Path) -> Volume:
    """Read a scan from .nii, .nii.gz (nibabel), .mha, .mhd or .nrrd (SimpleITK).

    A trailing axis of length one is dropped; of a 4-D file, ``path#N`` means volume N, counted
    from 0 along its last axis. Raises ``DataError`` naming the file when it is
    missing, damaged, of an unknown type, not three-dimensional, holds NaN or infinite voxels or
    one single value, or has an affine that cannot be inverted.
    """
    return scan_of(_read(Path(path)), path)


def scan_of(volume: Volume, where: object) -> Volume:
    """The volume, found to be a scan; ``DataError`` naming ``where`` it is from when it is none."""
    data = volume.data
    if data.min() == data.max():
        raise DataError(f"{where}: expected an image, found {data.flat[0]:g} in every voxel")
    return volume


def read_brain_mask(path: Path, like: Volume, *, trust_grid: bool = False) -> Bools:
    """Read a brain mask, bool (X, Y, Z), on the grid of ``like``, as ``brain_mask_of`` finds it."""
    return brain_mask_of(_read(Path(path)), path, like, trust_grid=trust_grid)


def brain_mask_of(
    volume: Volume, where: object, like: Volume, *, trust_grid: bool = False
) -> Bools:
    """The volume as a brain mask, bool (X, Y, Z), on the grid of ``like``.

    It may hold zero and one other value. Raises ``DataError`` naming ``where`` it is from when it
    is empty, holds more values or lies on another grid; with ``trust_grid`` a grid of the same
    shape and voxel size is the same, wherever the header puts it.
    """
    data = _on_grid(volume, where, like, trust_grid)
    mask: Bools = data != 0
    if not mask.any():
        raise DataError(f"{where}: expected a brain mask, found no voxel inside it")
    inside = data[mask]
    if inside.min() != inside.max():
        raise DataError(
            f"{where}: expected a mask of zeros and one other value, found values from "
            f"{data.min():g} to {data.max():g}"
        )
    return mask


def read_tumour_mask(path: Path, like: Volume, *, trust_grid: bool = False) -> Bools:
    """Read a tumour mask, bool (X, Y, Z), on the grid of ``like``; every label counts as tumour.

    It may be empty. Raises ``DataError`` when its values are not a few whole, non-negative labels
    or it lies on another grid, as ``read_brain_mask`` does.
    """
    data = _on_grid(_read(Path(path)), path, like, trust_grid)
    mask: Bools = data != 0
    inside = data[mask]
    if inside.size:
        labels = np.unique(inside)
        if labels[0] < 0 or len(labels) > _MAX_LABELS or (labels != np.rint(labels)).any():
            raise DataError(
                f"{path}: expected a mask of at most {_MAX_LABELS} whole labels, found "
                f"{len(labels)} values from {labels[0]:g} to {labels[-1]:g}"
            )
    return mask


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume as float32, atomically; the suffix says which format."""
    path = Path(path)
    write = _writer(path)
    _check_affine(volume.affine, str(path))
    with atomic_path(path) as temporary:
        write(temporary, volume.data, volume.affine)


def turn_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn that brings an array with this affine to RAS+, an oblique one to the nearest."""
    turn: NDArray[np.float64] = _nib.io_orientation(affine)
    return turn


def turned(array: NDArray[_Scalar], turn: NDArray[np.float64]) -> NDArray[_Scalar]:
    """The array turned, with x running fastest in memory: later steps work slice by slice."""
    return np.asfortranarray(_nib.apply_orientation(array, turn))


def turned_back(array: NDArray[_Scalar], turn: NDArray[np.float64]) -> NDArray[_Scalar]:
    """Undo ``turned``; x runs fastest here, too, as it does in files."""
    return np.asfortranarray(_nib.apply_orientation(array, _nib.ornt_transform(RAS, turn)))


def turned_affine(
    affine: NDArray[np.float64], turn: NDArray[np.float64], shape: tuple[int, ...]
) -> Affine:
    """The affine of an array of ``shape`` with ``affine`` once it is ``turned``."""
    found: Affine = affine @ _nib.inv_ornt_aff(turn, shape)
    return found


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Where the axes of an array point, for example `LPS`."""
    return "".join(_nib.aff2axcodes(affine))


def content_hash(data: Floats) -> str:
    """The same for the same voxels in any file format, flipped, with axes swapped, or padded by 0.

    ``data``: (X, Y, Z). Each value is scrambled to 64 bits; the sums over planes across each axis,
    read from either end, do not depend on how the axes lie.
    """
    if data.flags.f_contiguous:
        data = data.T  # planes that are together in memory
    sums = [np.zeros(n, np.uint64) for n in data.shape]
    for i, plane in enumerate(data):
        rows = np.flatnonzero(plane.any(axis=1))
        if not len(rows):
            continue
        span = slice(rows[0], rows[-1] + 1)
        scrambled = _scrambled(plane[span])
        lines = scrambled.sum(axis=1)
        sums[0][i] = lines.sum()
        sums[1][span] += lines
        sums[2] += scrambled.sum(axis=0)
    return hashlib.sha256(b"".join(sorted(map(_either_way, sums)))).hexdigest()[:16]


def _read(path: Path) -> Volume:
    """What the file holds, everything checked but the content."""
    file, number = file_and_volume(path)
    read = _reader(file)
    if not file.exists():
        raise DataError(f"{file}: no such file")
    return checked(path, lambda: read(file, number), f"; say which volume, as {file.name}#0")


def checked(where: object, read: Callable[[], tuple[Floats, Affine]], of_4d: str = "") -> Volume:
    """What ``read`` gives: voxels, float32, a trailing axis of length one dropped, and the affine.

    Raises ``DataError`` naming ``where`` they are from when they cannot be read or are no finite
    3-D volume with an affine that can be inverted; ``of_4d`` is added when there are 4 axes.
    """
    try:
        data, affine = read()
    except TwinvaeError:
        raise
    except MemoryError:
        raise DataError(f"{where}: expected an image that fits into memory") from None
    except Exception as error:  # whatever a reader raises on a damaged file
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: expected a readable image, found damage ({said})") from error
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim != 3 or 0 in data.shape:
        shape = "×".join(str(n) for n in data.shape)
        which = of_4d if data.ndim == 4 else ""
        raise DataError(f"{where}: expected a 3-D volume, found {data.ndim}-D ({shape}){which}")
    _check_affine(affine, str(where))
    with np.errstate(invalid="ignore"):
        total = data.sum(dtype=np.float64)  # finite only if every voxel is
    if not np.isfinite(total):
        bad = int(data.size - np.isfinite(data).sum())
        raise DataError(f"{where}: expected finite voxels, found {bad} NaN or infinite")
    return Volume(data, affine)


def _on_grid(volume: Volume, where: object, like: Volume, trust_grid: bool) -> Floats:
    data, affine = volume.data, volume.affine
    if data.shape != like.data.shape:
        raise DataError(f"{where}: expected the scan's shape {like.data.shape}, found {data.shape}")
    ends = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    ends[:, :3] *= np.array(data.shape) - 1
    apart = np.linalg.norm(ends @ (affine - like.affine).T, axis=1).max()
    if apart <= 0.1 * min(like.spacing_mm):
        return data
    sides = volume.spacing_mm
    same = np.allclose(sides, like.spacing_mm, rtol=_SAME_SIDE, atol=0)
    if same and trust_grid:
        return data
    said = f"{where}: expected the scan's affine, found one that puts voxels {apart:.3g} mm apart"
    if same:
        said += (
            "; shape and voxel size are the scan's: if only the header is wrong, say so with "
            "--trust-grid (index, detect, calibrate) or yes in the manifest's column trust_grid"
        )
    elif trust_grid:
        mine, its = (" × ".join(f"{s:.4g}" for s in three) for three in (sides, like.spacing_mm))
        said += f", and voxels of {mine} mm where the scan's are {its}: --trust-grid needs the same"
    raise DataError(said)


def _check_affine(affine: NDArray[Any], where: str) -> None:
    """Raise ``DataError`` unless ``affine`` is finite and can be inverted."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise DataError(f"{where}: expected a finite 4×4 affine, found {affine.tolist()}")
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if sides.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / sides)) < 1e-3:
        raise DataError(
            f"{where}: expected an affine that can be inverted, found {affine[:3, :3].tolist()}"
        )


def _reader(path: Path) -> _Read:
    """The function that reads files of this suffix, or a folder; ``DataError`` when there is none.

    It takes the path and what follows its `#` (``file_and_volume``): the number of the volume
    wanted of a 4-D file, the SeriesInstanceUID wanted of a DICOM folder, None for all there is.
    """
    known = path.name.lower().endswith(_NIFTI + _ITK)
    if path.suffix.lower() in _DICOM or (path.is_dir() and not known):
        return _read_dicom
    return _pick(path, _read_nifti, _read_itk)


def _writer(path: Path) -> _Write:
    """The function that writes files of this suffix; ``DataError`` when there is none."""
    if path.suffix.lower() == ".mhd":
        raise DataError(f"{path}: expected a format of one file, such as .mha, found .mhd")
    return _pick(path, write_nifti, write_itk)


def _pick(path: Path, nifti: _Function, itk: _Function) -> _Function:
    name = path.name.lower()
    if name.endswith(_NIFTI):
        return nifti
    if name.endswith(_ITK):
        return itk
    found = path.suffix or "no suffix"
    raise DataError(f"{path}: expected one of {' '.join(_NIFTI + _ITK)}, found {found}")


def _numbered(path: Path, number: _Number) -> int | None:
    if isinstance(number, str):
        raise DataError(f"{path}: expected a DICOM folder for #{number}, found a file")
    return number


def _read_nifti(path: Path, number: _Number) -> tuple[Floats, Affine]:
    return read_nifti(path, _numbered(path, number))


def _read_dicom(path: Path, number: _Number) -> tuple[Floats, Affine]:
    if isinstance(number, int):
        raise DataError(f"{path}: expected a SeriesInstanceUID after #, found {number}")
    return read_series(path, number)


def _read_itk(path: Path, number: _Number) -> tuple[Floats, Affine]:
    return read_itk(path, _numbered(path, number))


def _scrambled(plane: Floats) -> NDArray[np.uint64]:
    """64 bits a value; 0 for 0."""
    bits = np.ascontiguousarray(plane + np.float32(0)).view(np.uint32)  # −0 becomes 0
    out = bits.astype(np.uint64)
    out *= _ODD
    out ^= out >> np.uint64(29)
    out *= _ODD2
    out ^= out >> np.uint64(32)
    return out


def _either_way(sums: NDArray[Any]) -> bytes:
    """The sums from end to end, whichever end comes first."""
    full = np.flatnonzero(sums)
    cut = sums[full[0] : full[-1] + 1] if len(full) else sums[:0]
    return bytes(min(cut.tobytes(), cut[::-1].tobytes()))
