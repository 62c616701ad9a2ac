"""Contact sheets: every scan of a source at a glance, for a person's eye; and what the report
says of quality control's flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from twinvae.errors import some_of
from twinvae.imaging import SliceStore, unit_images
from twinvae.imaging.quality import FLAGS, flag_counts, leaks
from twinvae.outputs import replaced
from twinvae.reporting.style import INK, SKY, VERMILLION, as_png, styled
from twinvae.vocabulary import SCAN_KEY

Bytes = NDArray[np.uint8]

POSITIONS = (0.25, 0.4, 0.55, 0.7, 0.85)
"""Where the slices lie in the brain, from its lowest slice (0) to its highest (1)."""
PER_PAGE = 60
_COLUMNS, _LINE, _GAP, _DPI = 3, 22, 10, 100
_SAME_SCAN = list(SCAN_KEY)


def write_contact_sheets(store: SliceStore, flags: pd.DataFrame, folder: Path) -> list[Path]:
    """Write ``folder/SOURCE.png`` for every source, ``SOURCE-2.png`` … beyond 60 scans.

    ``flags``: the store's qc.tsv, in whose order the scans come, so that those that could not be
    prepared show as well. Returns the sheets' paths; the folder is replaced.
    """
    rows = store.index.reset_index(drop=True)
    where = {key: group.index.to_numpy() for key, group in rows.groupby(_SAME_SCAN, sort=False)}
    sheets: list[str] = []
    with replaced(folder, "contact sheets") as room:
        for source, scans in flags.groupby("source", sort=False):
            pages = [scans[i : i + PER_PAGE] for i in range(0, len(scans), PER_PAGE)]
            for number, page in enumerate(pages, 1):
                name = _file_name(str(source), number)
                title = f"{source}: {len(scans)} scans" + (
                    f", page {number} of {len(pages)}" if len(pages) > 1 else ""
                )
                (room / name).write_bytes(as_png(contact_sheet(store, where, page, title), _DPI))
                sheets.append(name)
    return [folder / name for name in sheets]


@styled
def contact_sheet(
    store: SliceStore, where: dict[Any, NDArray[np.int64]], scans: pd.DataFrame, title: str
) -> Figure:
    """One page: for each scan its name, its flags in red, and slices with outlines.

    ``where``: (subject, session, source) → rows of the store.
    """
    zoom = max(1, round(112 / store.size))
    side, strip = store.size * zoom, store.size * zoom * len(POSITIONS)
    lines = -(-len(scans) // _COLUMNS)
    high, wide = _LINE * 2 + lines * (side + _LINE + _GAP), _COLUMNS * (strip + _GAP) + _GAP
    canvas: Bytes = np.full((high, wide, 3), 255, np.uint8)
    figure = Figure(figsize=(wide / _DPI, high / _DPI), dpi=_DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    legend = "outlines: brain blue, tumour mask red; slices from low (left) to high"
    axes.text(_GAP, _LINE, f"{title} — {legend}", va="center", fontsize=10)
    for i, (_, scan) in enumerate(scans.iterrows()):
        left = _GAP + i % _COLUMNS * (strip + _GAP)
        top = 2 * _LINE + i // _COLUMNS * (side + _LINE + _GAP)
        rows = where.get(tuple(scan[_SAME_SCAN]))
        if rows is not None:
            tile = _strip(store, rows, zoom)
            canvas[top + _LINE : top + _LINE + side, left : left + strip] = tile
        _label(axes, scan, left, top + _LINE / 2, strip)
    axes.imshow(canvas, interpolation="none", extent=(0, wide, high, 0), aspect="auto")
    return figure


def _label(axes: Any, scan: pd.Series[Any], left: int, middle: float, width: int) -> None:
    name = " ".join(str(scan[key]) for key in ("subject", "session", "split") if scan[key])
    axes.text(left, middle, name, va="center", fontsize=7.5, color=INK)
    if scan["flags"]:
        room = max(10, int(width / 5.6) - len(name) - 4)
        said = str(scan["why"])
        said = said if len(said) <= room else said[: room - 1] + "…"
        axes.text(
            left + width, middle, f"⚑ {said}", va="center", ha="right", fontsize=7.5,
            color=VERMILLION, fontweight="bold",
        )  # fmt: skip


def _strip(store: SliceStore, rows: NDArray[np.int64], zoom: int) -> Bytes:
    """Slices of one scan beside each other, those nearest to ``POSITIONS``."""
    heights = store.index["position"].to_numpy()[rows]
    picks = [rows[int(np.abs(heights - wanted).argmin())] for wanted in POSITIONS]
    grey = (unit_images(store.images[picks]) * 255).astype(np.uint8)
    pictures = np.repeat(_enlarged(grey, zoom)[..., None], 3, axis=-1)
    for masks, colour in ((store.brain, SKY), (store.tumour, VERMILLION)):
        rim = _rim(_enlarged(masks[picks], zoom) > 0)
        pictures[rim] = np.rint(np.array(to_rgb(colour)) * 255).astype(np.uint8)
    return np.concatenate(list(pictures), axis=1)


def _enlarged(pictures: NDArray[Any], zoom: int) -> NDArray[Any]:
    return pictures.repeat(zoom, axis=1).repeat(zoom, axis=2)


def _rim(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of each mask (n, H, W) that touch a pixel outside it."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    inner = masks.copy()
    for shifted in _neighbours(padded):
        inner &= shifted
    return masks & ~inner


def _neighbours(padded: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    yield padded[:, :-2, 1:-1]
    yield padded[:, 2:, 1:-1]
    yield padded[:, 1:-1, :-2]
    yield padded[:, 1:-1, 2:]


def _file_name(source: str, page: int) -> str:
    name = re.sub(r"[^\w.-]+", "_", source).strip(".") or "source"
    return f"{name}.png" if page == 1 else f"{name}-{page}.png"


@dataclass(frozen=True)
class FlagSummary:
    """What the page says about flagged scans."""

    scans: int
    flagged: int
    lines: tuple[tuple[str, str, int, str], ...]
    """Flag, meaning, number of scans, the first of them; worst first."""
    leaks: tuple[str, ...]
    """Scans whose voxels are in another split too."""


def summarise_flags(table: pd.DataFrame) -> FlagSummary:
    """From a table of flags, as in qc.tsv."""
    lines = []
    for name, count in flag_counts(table).items():
        has = [name in str(flags).split(",") for flags in table["flags"]]
        named = [f"{row['source']}/{row['subject']}" for _, row in table[has].iterrows()]
        lines.append((name.replace("_", " "), FLAGS[name], count, some_of(named)))
    flagged = int((table["flags"] != "").sum())
    return FlagSummary(len(table), flagged, tuple(lines), tuple(leaks(table)))
