"""NIfTI-1 and -2 by nibabel, with the header believed only as far as the bytes bear it out.

Fields: nifti1.h of the NIfTI Data Format Working Group (nifti.nimh.nih.gov).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from twinvae.errors import DataError
from twinvae.files import file_and_volume, gzipped

MOST_VOXELS = 2**30
"""A volume that claims more is taken for damage."""

_nib: Any = nibabel  # untyped
_HEADER_SIZES: dict[int, Any] = {348: _nib.Nifti1Image, 540: _nib.Nifti2Image}
_TIGHTEST = 1100  # zlib packs at most 1,032 bytes into one
_PIECE = 2**20
_BEGINNING = 2**16  # of a file, packed: more than enough for its header
_UNITS = {1: "metres", 3: "micrometres"}  # xyzt_units, its lowest three bits; 0 unknown, 2 mm


def read_nifti(path: Path, number: int | None) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels, float32, and the RAS affine; of a 4-D file, volume ``number`` or all."""
    packed = path.read_bytes()
    zipped = _is_gzip(packed)
    kind, header = _header(path, _head(packed))
    shape, claimed = _claim(path, header, len(packed) * (_TIGHTEST if zipped else 1))
    raw = _unzipped(packed, claimed, to_end=True) if zipped else packed
    if claimed > len(raw):
        raise _truncated(path, claimed, shape, len(raw))
    affine = _affine(path, header)
    image = kind.from_bytes(raw)
    if not np.allclose(image.affine, affine, rtol=1e-4, atol=1e-3):
        raise DataError(f"{path}: expected the affine {affine.tolist()}, found {image.affine}")
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        if number is None:
            data = image.get_fdata(dtype=np.float32, caching="unchanged")
        else:
            check_number(path, number, shape)
            data = np.asarray(image.dataobj[..., number], np.float32)
    return data, np.asarray(image.affine, np.float64)


def nifti_header(path: Path) -> Any:
    """Nibabel's header of a file, gzipped or not whatever its name; only its beginning is read."""
    with path.open("rb") as file:
        return _header(path, _head(file.read(_BEGINNING)))[1]


def orientation_facts(path: Path, shape: tuple[int, ...]) -> dict[str, float]:
    """The codes of qform and sform and, when both are set, how far apart they put voxels.

    ``forms_apart_mm``: the largest distance at the volume's corners; ``forms_mirror``: 1 when one
    is the mirror image of the other. Empty for other formats, which say it once.
    """
    file, _ = file_and_volume(path)
    if not file.name.lower().endswith((".nii", ".nii.gz")):
        return {}
    header = nifti_header(file)
    facts = {name: float(header[name]) for name in ("qform_code", "sform_code")}
    if facts["qform_code"] > 0 and facts["sform_code"] > 0:
        q, s = header.get_qform(), header.get_sform()
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= np.array(shape[:3]) - 1
        apart = np.linalg.norm((corners @ (q - s).T)[:, :3], axis=1).max()
        facts["forms_apart_mm"] = round(float(apart), 3)
        mirror = np.linalg.det(q[:3, :3]) * np.linalg.det(s[:3, :3]) < 0
        facts["forms_mirror"] = float(mirror)
    return facts


def nifti_in_memory(image: Any, where: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """As ``read_nifti``, of any image of nibabel's; ``where`` says whose it is."""
    kind = image.header.get_data_dtype()
    if kind.kind not in "iuf":
        raise DataError(f"{where}: expected one real number a voxel, found {kind}")
    if isinstance(image.header, _nib.Nifti1Header):
        _check_place(where, image.header)
    if image.affine is None:
        raise DataError(f"{where}: expected an image with an affine, found none")
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses what is not finite
        data = image.get_fdata(dtype=np.float32, caching="unchanged")
    return data, np.array(image.affine, np.float64)


def nifti_image(
    data: NDArray[np.float32] | NDArray[np.int16], affine: NDArray[np.float64]
) -> nibabel.Nifti1Image:
    """An image of float32, or of int16 if it is given so, in memory, both transforms set."""
    kind = np.int16 if data.dtype == np.int16 else np.float32
    image = _nib.Nifti1Image(np.asarray(data, kind), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    found: nibabel.Nifti1Image = image
    return found


def write_nifti(
    path: Path, data: NDArray[np.float32] | NDArray[np.int16], affine: NDArray[np.float64]
) -> None:
    """Write ``nifti_image``; gzipped where the name says so."""
    raw = nifti_image(data, affine).to_bytes()
    path.write_bytes(gzipped(raw) if path.name.lower().endswith(".gz") else raw)


def check_number(path: Path, number: int, shape: Sequence[int]) -> None:
    """Raise ``DataError`` unless there is a volume of this number."""
    if len(shape) != 4:
        raise DataError(f"{path}: expected a 4-D file for #{number}, found {len(shape)}-D")
    if number >= shape[3]:
        raise DataError(f"{path}: expected a volume of #0 to #{shape[3] - 1}, found #{number}")


def _is_gzip(packed: bytes) -> bool:
    return packed[:2] == b"\x1f\x8b"


def _head(packed: bytes) -> bytes:
    """The first bytes of the NIfTI file, unpacked."""
    return _unzipped(packed, 1024, to_end=False) if _is_gzip(packed) else packed[:1024]


def _header(path: Path, head: bytes) -> tuple[Any, Any]:
    """The image class of nibabel, and the header."""
    if len(head) < 348:
        raise DataError(f"{path}: expected a NIfTI header, found {len(head)} bytes")
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    kinds = [kind for size, kind in _HEADER_SIZES.items() if size in sizes]
    if not kinds:
        raise DataError(f"{path}: expected a NIfTI file, found something else")
    size = kinds[0].header_class.sizeof_hdr
    header = kinds[0].header_class(head[:size], check=False)  # a check would mend it
    if not header["magic"].item().startswith(b"n+"):
        raise DataError(
            f"{path}: expected a NIfTI file that holds its voxels (magic n+1), found "
            f"{header['magic'].item()!r}"
        )
    return kinds[0], header


def _claim(path: Path, header: Any, most: int) -> tuple[tuple[int, ...], int]:
    """Shape, and the bytes it needs, which must fit into ``most``."""
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: expected one real number a voxel, found {dtype}")
    shape = tuple(int(n) for n in header.get_data_shape())
    offset = float(header["vox_offset"])
    if not (int(header["sizeof_hdr"]) <= offset < 2**31 and offset == int(offset)):
        raise DataError(f"{path}: expected vox_offset after the header, found {offset:g}")
    claimed = int(offset) + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if min(shape, default=0) < 1 or claimed > most:
        raise _truncated(path, claimed, shape, most)
    volume = int(np.prod(shape[:3], dtype=object))
    if volume > MOST_VOXELS:
        raise DataError(f"{path}: expected at most {MOST_VOXELS:,} voxels, found {volume:,}")
    return shape, claimed


def _truncated(path: Path, claimed: int, shape: tuple[int, ...], found: int) -> DataError:
    return DataError(
        f"{path}: expected {claimed} bytes for shape {shape}, found {found}: truncated?"
    )


def _affine(path: Path, header: Any) -> NDArray[np.float64]:
    """The sform, else the qform, as the header has them; ``DataError`` when it has neither well."""
    _check_place(path, header)
    if int(header["sform_code"]) > 0:
        affine = np.asarray(header.get_sform(), np.float64)
        return affine
    if int(header["qform_code"]) > 0:
        affine = np.asarray(header.get_qform(), np.float64)
        return affine
    affine = np.asarray(header.get_base_affine(), np.float64)
    return affine


def _check_place(where: object, header: Any) -> None:
    """Raise ``DataError`` unless the header says in mm, and in a known space, where voxels lie."""
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, 2):
        found = _UNITS.get(unit, f"xyzt_units {unit}")
        raise DataError(f"{where}: expected a header in mm, found {found}")
    for name in ("sform_code", "qform_code"):
        if not 0 <= int(header[name]) <= 5:
            raise DataError(f"{where}: expected {name} from 0 to 5, found {int(header[name])}")


def _unzipped(packed: bytes, most: int, *, to_end: bool) -> bytes:
    """At most the first ``most`` bytes of a gzip file, its checksums checked when read ``to_end``.

    What follows those bytes is decompressed piece by piece and thrown away.
    """
    kept: list[bytes] = []
    left, rest = most, packed
    while rest.strip(b"\0"):  # members follow one another; zeros may pad the end (RFC 1952)
        unpack = zlib.decompressobj(wbits=31)
        while not unpack.eof:
            try:
                piece = unpack.decompress(rest, max(_PIECE, left) if to_end else left)
            except zlib.error as error:
                raise OSError(f"gzip stream, or its CRC: {error}") from None
            rest = unpack.unconsumed_tail
            if not piece and not rest and not unpack.eof:
                if not to_end:
                    break
                raise EOFError("compressed file ended before its end-of-stream marker")
            if left > 0:
                kept.append(piece[:left])
                left -= len(kept[-1])
            if left <= 0 and not to_end:
                return b"".join(kept)
        if not unpack.eof:
            break
        rest = unpack.unused_data
    return b"".join(kept)
