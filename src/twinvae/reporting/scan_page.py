"""One page per scan for ``detect``: the verdict, a viewer, every slice's score, what stands out.

It needs no evaluation and no matplotlib: ``detect`` starts without them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from twinvae.decision import ScanVerdict
from twinvae.decision.domain import Outside
from twinvae.files import atomic_path, write_text
from twinvae.reporting.judged import distinct_slices, judged_values, marked
from twinvae.reporting.mask_outline import MaskedHead, mask_outlines
from twinvae.reporting.pictures import grey, png, with_heat
from twinvae.reporting.text import data_uri, number, render
from twinvae.reporting.view import View, in_box, view_data

SLICE_COLUMNS = ("slice", "position", "score", "threshold", "abnormal")
_LISTED = 12  # clusters on the page; all of them are in lesions.tsv

Images = npt.NDArray[np.floating]


@dataclass(frozen=True)
class StandsOut:
    """The map behind the score, and where it reaches its threshold."""

    label: str
    """What the map is."""
    level: str
    """What its threshold is, in a sentence."""
    exact: bool
    """Whether the score comes from this map; else the score has none."""
    relative: Images
    """(n, H, W): the map in times its threshold, 0 outside the brain."""
    lesions: pd.DataFrame
    """One row a cluster, the highest peak first: columns of lesions.tsv."""
    peaks: Sequence[tuple[int, int, int]]
    """Voxel of each cluster's peak on the grid of the view."""


@dataclass(frozen=True)
class ScanMaterial:
    """What ``detect`` found in one scan. Arrays have one entry a slice, in ``slices``' order."""

    name: str
    """The scan, as the reader knows it."""
    verdict: ScanVerdict | None
    """What is said of the scan; None when nothing is, since it is out of domain."""
    slices: pd.DataFrame
    """One row a slice: ``slice`` (number along z), ``position`` in [0, 1], ``score``,
    ``threshold`` (d*: from here on a slice is abnormal), ``abnormal`` (bool, missing without a
    verdict)."""
    score: str
    """Name of the score."""
    images: Images
    """(n, H, W), intensity in [0, 1]; anterior at the top, the person's right on the left."""
    reconstructions: Images
    """(n, H, W): what the healthy model makes of them."""
    stands_out: StandsOut
    """The map behind the score."""
    view: View
    """The scan and its maps, to be looked through."""
    made: Mapping[str, object] = field(default_factory=dict)
    """How the page came about: what → text (bundle, version, recipe, time)."""
    warnings: Sequence[str] = ()
    """Sentences shown beside the verdict, but for what ``outside`` says."""
    outside: Sequence[Outside] = ()
    """What puts the scan out of domain; said once, in one sentence."""
    head: MaskedHead | None = None
    """The whole head and the mask found in it; None where nothing was stripped."""


def scan_html(material: ScanMaterial) -> str:
    """The page as one HTML text that opens offline. Raises ``ValueError`` on unequal lengths."""
    count = len(material.slices)
    arrays = (material.images, material.reconstructions, material.stands_out.relative)
    if not count or any(len(array) != count for array in arrays):
        raise ValueError(
            f"expected as many slices, images, reconstructions and maps, at least one; found "
            f"{count}, {', '.join(str(len(array)) for array in arrays)}"
        )
    out = material.stands_out
    return render(
        "scan.html.j2",
        name=material.name,
        **judged_values(material.verdict, material.slices, material.score),
        warnings=[*_domain(material), *material.warnings],
        outside=material.outside,
        view=_embedded(view_data(material.view)),
        layers=material.view.layers[1:],
        out=out,
        lesions=list(_lesions(material)),
        more=max(0, len(out.lesions) - _LISTED),
        places=[_place(material, int(row)) for row in distinct_slices(material.slices)],
        outlines={} if material.head is None else _outlines(material.head),
        made=material.made,
    )


def write_scan_page(material: ScanMaterial, path: Path) -> None:
    """Write the page of ``scan_html`` atomically."""
    write_text(path, scan_html(material))


def write_thumbnail(material: ScanMaterial, path: Path) -> None:
    """Write ``thumbnail`` as a file."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(
            thumbnail(material.slices, material.images, material.stands_out.relative)
        )


def thumbnail(slices: pd.DataFrame, images: Images, relative: Images) -> bytes:
    """The highest slice, the map laid over it, as PNG; arguments as in ``ScanMaterial``."""
    row = int(distinct_slices(slices)[0])
    return png(with_heat(images[row], relative[row]))


def _domain(material: ScanMaterial) -> list[str]:
    """What is out of domain and what follows, in one sentence; none for a scan that is inside."""
    if not material.outside:
        return []
    what = ", ".join(one.statistic for one in material.outside)
    then = (
        "so no verdict is given"
        if material.verdict is None
        else "OUT OF DOMAIN, and the verdict was forced: its error rates do not hold"
    )
    return [f"Unlike the healthy scans behind the thresholds in {what}: {then}."]


def _lesions(material: ScanMaterial) -> Iterator[dict[str, Any]]:
    """Rows of the table of clusters."""
    out = material.stands_out
    rows = out.lesions.head(_LISTED).to_dict("records")
    for row, peak in zip(rows, out.peaks, strict=False):
        yield {
            **{str(key): value for key, value in row.items()},
            "go": ",".join(str(v) for v in in_box(material.view, peak)),
            "centre": ", ".join(number(row[f"{axis}_mm"], 1) for axis in "xyz"),
        }


def _outlines(head: MaskedHead) -> dict[str, str]:
    return {name: data_uri(png(cut), "png") for name, cut in mask_outlines(head).items()}


def _place(material: ScanMaterial, row: int) -> dict[str, Any]:
    """One of the highest slices: what is written beside it, and its three pictures."""
    slices, image = marked(material.slices).iloc[row], material.images[row]
    pictures = {
        "slice": grey(image),
        "healthy reconstruction": grey(material.reconstructions[row]),
        "map over the slice": with_heat(image, material.stands_out.relative[row]),
    }
    return {
        "slice": int(slices["slice"]),
        "score": f"{slices['score']:.3g}",
        "abnormal": bool(slices["abnormal"]),
        "pictures": {what: data_uri(png(pixels), "png") for what, pixels in pictures.items()},
    }


def _embedded(value: Mapping[str, Any]) -> Markup:
    """JSON that may stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
