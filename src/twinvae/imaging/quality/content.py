"""A fingerprint of a volume's voxels that does not see how they are stored."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinvae.imaging.volume import Floats

_ODD = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's constants
_ODD2 = np.uint64(0xBF58476D1CE4E5B9)


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
