"""Whether a volume is what its file says, by what ``tests/header_oracles.py`` reads of it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from header_oracles import mha_says, nifti_says


def told_otherwise(path: Path, kind: str, volume: Any) -> str:
    """What of a volume is not as its file says; empty when all is."""
    raw = path.read_bytes()
    if kind.startswith("nifti"):
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        shape, affine = nifti_says(raw)
        here = volume.affine[:3]
        if affine is not None and not np.allclose(here, affine, rtol=1e-4, atol=1e-3):
            return f"affine {here.tolist()}, the header has {affine.tolist()}"
    else:
        shape, spacing, origin = mha_says(raw)
        shape = [n for i, n in enumerate(shape) if i < 3 or n != 1]
        if not np.allclose(volume.spacing_mm, spacing[:3], rtol=1e-5):
            return f"spacing {volume.spacing_mm}, the header has {spacing}"
        if not np.allclose(volume.affine[:3, 3] * (-1, -1, 1), origin[:3], atol=1e-4, rtol=1e-5):
            return f"origin {volume.affine[:3, 3].tolist()}, the header has {origin}"
    if list(volume.data.shape) != shape:
        return f"shape {volume.data.shape}, the header has {shape}"
    return ""
