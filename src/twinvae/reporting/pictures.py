"""Small pictures without a plotting library: grey slices, a map laid over them, PNG files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3), red, green, blue."""

HEAT: tuple[tuple[float, int, int, int, float], ...] = (
    (0.5, 120, 0, 0, 0.0),
    (1.0, 213, 60, 0, 0.55),
    (2.0, 255, 160, 0, 0.75),
    (3.0, 255, 240, 120, 0.85),
)
"""How a map is laid over a slice: times its threshold; red, green, blue; opacity in [0, 1]."""


def grey(image: npt.NDArray[np.floating]) -> Pixels:
    """An intensity image (H, W) in [0, 1] in grey."""
    values = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=-1)


def with_heat(image: npt.NDArray[np.floating], relative: npt.NDArray[np.floating]) -> Pixels:
    """The image (H, W) in grey under the map ``relative`` (H, W), in times its threshold."""
    stops = np.array(HEAT)
    heat = np.stack([np.interp(relative, stops[:, 0], stops[:, c]) for c in (1, 2, 3)], axis=-1)
    opacity = np.interp(relative, stops[:, 0], stops[:, 4])[..., None]
    mixed = grey(image) * (1 - opacity) + heat * opacity
    return np.asarray(np.rint(mixed), np.uint8)


def png(pixels: Pixels) -> bytes:
    """The pixels as a PNG file: 8 bits a channel, no interlacing, no row filter."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in np.ascontiguousarray(pixels))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
