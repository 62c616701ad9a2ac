"""Shape and place out of a file's bytes, read here on their own, by the formats' documents."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

# (form, offset) of dim, pixdim, qform_code and sform_code, quatern and qoffset, srow
_NIFTI = {
    348: (("8h", 40), ("4f", 76), ("2h", 252), ("6f", 256), ("12f", 280)),
    540: (("8q", 16), ("4d", 104), ("2i", 344), ("6d", 352), ("12d", 400)),
}


def nifti_says(raw: bytes) -> tuple[list[int], NDArray[np.float64] | None]:
    """Shape and (3, 4) affine of a header; the affine None where only pixdim is left."""
    order = "<" if struct.unpack("<i", raw[:4])[0] in _NIFTI else ">"
    places = _NIFTI[struct.unpack(f"{order}i", raw[:4])[0]]
    dim, pixdim, codes, turn, rows = (struct.unpack_from(order + f, raw, at) for f, at in places)
    shape = list(dim[1 : dim[0] + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if codes[1] > 0:
        return shape, np.array(rows).reshape(3, 4)
    return shape, _turned(turn, pixdim) if codes[0] > 0 else None


def _turned(turn: Any, pixdim: Any) -> NDArray[np.float64]:
    """nifti1.h, method 2."""
    b, c, d, *offset = turn
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    matrix = np.array([
        [a*a + b*b - c*c - d*d, 2*b*c - 2*a*d, 2*b*d + 2*a*c],
        [2*b*c + 2*a*d, a*a + c*c - b*b - d*d, 2*c*d - 2*a*b],
        [2*b*d - 2*a*c, 2*c*d + 2*a*b, a*a + d*d - c*c - b*b],
    ])  # fmt: skip
    sides = np.array([pixdim[1], pixdim[2], pixdim[3] * (-1 if pixdim[0] == -1 else 1)])
    return np.column_stack([matrix * sides, offset])


def mha_says(raw: bytes) -> tuple[list[int], list[float], list[float]]:
    """Shape, spacing and origin (LPS) as a MetaImage's text has them."""
    text = raw.split(b"ElementDataFile")[0].decode("latin-1")

    def numbers(key: str, default: Any) -> Any:
        found = re.search(rf"^{key}[ \t]*=[ \t]*(.*?)\s*$", text, re.MULTILINE)
        return [float(word) for word in found[1].split()] if found else default

    spacing = numbers("ElementSpacing", None) or numbers("ElementSize", None)
    origin = numbers("Offset", None) or numbers("Position", None) or numbers("Origin", [0.0] * 3)
    return [int(n) for n in numbers("DimSize", [])], spacing, origin
