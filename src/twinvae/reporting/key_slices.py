"""Key slices of a scan as pictures: the slice, a map laid over it, and words burnt in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from twinvae.reporting.style import Images, Masks, bare, outline, show_slice

_SIDE_PX = 640  # the longer side of the slice
_BAND_PX = 40  # above and below it
_DPI = 100
_FAINTEST = 0.5  # of the map's threshold: lower values stay transparent
_STRONGEST = 2.0  # times that threshold: higher values look alike
_OPAQUE = 0.45

Picture = npt.NDArray[np.uint8]


def key_slices(
    heat: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], count: int = 6
) -> list[int]:
    """Places along Z of at most ``count`` slices worth a picture, rising.

    ``heat``, ``labels``: (X, Y, Z), the map and the regions' numbers. For each region, in the order
    of their numbers, the slice that shows most of it; then, at least a twentieth of the scan apart,
    those where the map is highest.
    """
    chosen: list[int] = []
    for number in range(1, int(labels.max(initial=0)) + 1):
        place = int((labels == number).sum((0, 1)).argmax())
        if place not in chosen:
            chosen.append(place)
        if len(chosen) == count:
            return sorted(chosen)
    highest = heat.max((0, 1))
    apart = max(1, heat.shape[2] // 20)
    for place in np.argsort(-highest, kind="stable"):
        near = any(abs(int(place) - other) < apart for other in chosen)
        if len(chosen) < count and highest[place] > 0 and not near:
            chosen.append(int(place))
    return sorted(chosen)


def draw_key_slice(
    image: Images,
    heat: Images,
    region: Masks,
    *,
    aspect: float,
    above: str,
    below: str,
) -> Picture:
    """RGB (H, W, 3): the slice in grey, ``heat`` in colours over it, ``region`` outlined.

    ``image``: (rows, columns) in [0, 1]. ``heat``: in times its threshold. ``aspect``: height of a
    pixel over its width. ``above`` and ``below`` are written in bands of their own, over no part of
    the slice.
    """
    rows, columns = image.shape
    scale = _SIDE_PX / max(rows * aspect, columns)
    width, height = max(480, round(columns * scale)), round(rows * aspect * scale)
    whole = height + 2 * _BAND_PX
    figure = Figure(figsize=(width / _DPI, whole / _DPI), dpi=_DPI, facecolor="black")
    axes = figure.add_axes((0, _BAND_PX / whole, 1, height / whole), facecolor="black")
    show_slice(axes, image)
    strength = np.clip((heat - _FAINTEST) / (_STRONGEST - _FAINTEST), 0, 1)
    axes.imshow(
        strength, cmap="autumn_r", vmin=0, vmax=1, alpha=np.asarray(_OPAQUE * strength**0.5)
    )
    outline(axes, region)
    axes.set_aspect(aspect)
    bare(axes)
    middle = _BAND_PX / whole / 2
    for text, y, size, colour in ((above, 1 - middle, 13, "#FF6B5E"), (below, middle, 9, "white")):
        figure.text(0.5, y, text, color=colour, fontsize=size, ha="center", va="center")
    canvas: Any = FigureCanvasAgg(figure)  # untyped
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
