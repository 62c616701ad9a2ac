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

from twinvae.decision import STATISTICS, ScanVerdict
from twinvae.decision.domain import Outside
from twinvae.files import atomic_path, write_text
from twinvae.reporting.pictures import grey, png, with_heat
from twinvae.reporting.score_curve import gauge, score_curve
from twinvae.reporting.text import data_uri, number, ordinal, percent, render, score_label
from twinvae.reporting.view import View, in_box, view_data

SLICE_COLUMNS = ("slice", "position", "score", "threshold", "abnormal")
_SHOWN = 6  # places on the page
_APART = 0.08  # of the brain's height: nearer slices show the same place
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


def scan_html(material: ScanMaterial) -> str:
    """The page as one HTML text that opens offline. Raises ``ValueError`` on unequal lengths."""
    count = len(material.slices)
    arrays = (material.images, material.reconstructions, material.stands_out.relative)
    if not count or any(len(array) != count for array in arrays):
        raise ValueError(
            f"expected as many slices, images, reconstructions and maps, at least one; found "
            f"{count}, {', '.join(str(len(array)) for array in arrays)}"
        )
    verdict, out = material.verdict, material.stands_out
    return render(
        "scan.html.j2",
        name=material.name,
        said=_said(material),
        gauge=None if verdict is None else gauge(verdict),
        verdict=verdict,
        warnings=[*_domain(material), *material.warnings],
        outside=material.outside,
        view=_embedded(view_data(material.view)),
        layers=material.view.layers[1:],
        out=out,
        lesions=list(_lesions(material)),
        more=max(0, len(out.lesions) - _LISTED),
        curve=score_curve(material.slices, verdict),
        score=score_label(material.score),
        places=[_place(material, int(row)) for row in distinct_slices(material.slices)],
        slices=[
            {
                "slice": int(row["slice"]),
                "position": f"{row['position']:.2f}",
                "score": f"{row['score']:.4g}",
                "abnormal": bool(row["abnormal"]),
            }
            for _, row in _marked(material.slices).sort_values("slice").iterrows()
        ],
        made=material.made,
    )


def write_scan_page(material: ScanMaterial, path: Path) -> None:
    """Write the page of ``scan_html`` atomically."""
    write_text(path, scan_html(material))


def write_thumbnail(material: ScanMaterial, path: Path) -> None:
    """Write the highest slice, the map laid over it, as a PNG file."""
    row = int(distinct_slices(material.slices)[0])
    with atomic_path(path) as temporary:
        temporary.write_bytes(
            png(with_heat(material.images[row], material.stands_out.relative[row]))
        )


def distinct_slices(slices: pd.DataFrame, count: int = _SHOWN) -> npt.NDArray[np.int64]:
    """Rows of at most ``count`` slices to show, the highest first, each of a place of its own.

    A slice is one when it is the highest within ``_APART`` of the brain's height around it.
    """
    score = slices["score"].to_numpy(np.float64)
    position = slices["position"].to_numpy(np.float64)
    order = np.argsort(-score, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    near = np.abs(position[:, None] - position) <= _APART
    best = np.where(near, rank, len(rank)).min(axis=1) == rank
    return np.asarray([row for row in order if best[row]][:count], np.int64)


def _said(material: ScanMaterial) -> dict[str, str]:
    """The verdict in words: ``tone``, ``sign``, ``state``, why, and what is said of slices."""
    verdict = material.verdict
    if verdict is None:
        return {"tone": "unclear", "sign": "?", "state": "No verdict: out of domain",
                "reason": "", "called": ""}  # fmt: skip
    return {
        "tone": "bad" if verdict.abnormal else "good",
        "sign": "!" if verdict.abnormal else "✓",
        "state": "Abnormal" if verdict.abnormal else "No abnormality found",
        "reason": _reason(verdict, score_label(material.score)),
        "called": _called(material, verdict),
    }


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


def _reason(verdict: ScanVerdict, label: str) -> str:
    relation = "reaches" if verdict.abnormal else "stays below"
    what = STATISTICS[verdict.statistic].summary
    return (
        f"The verdict rests on one number, the {what} ({label}): {verdict.value:.4g} {relation} "
        f"the threshold for scans, {verdict.threshold:.4g}, the {ordinal(verdict.percentile)} "
        f"percentile of the same in healthy validation scans. About "
        f"{percent(verdict.target_fpr, 0)} of healthy scans like those would be called abnormal. "
        f"Conformal p-value of the scan: {verdict.p_value:.2g}."
    )


def _called(material: ScanMaterial, verdict: ScanVerdict) -> str:
    """What single slices say, and that the verdict does not rest on them."""
    bounds = material.slices["threshold"]
    low, high = float(bounds.min()), float(bounds.max())
    level = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}, by the slice's brain area"
    reach = int(material.slices["abnormal"].sum())
    aside = "" if verdict.abnormal or not reach else " Some slices of healthy scans do so too."
    return (
        f"{reach} of {len(bounds)} slices reach the threshold for single slices, d* = {level}."
        f"{aside}"
    )


def _marked(slices: pd.DataFrame) -> pd.DataFrame:
    """The slices; none of them is abnormal without a verdict."""
    return slices.assign(abnormal=slices["abnormal"].fillna(False).astype(bool))


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


def _place(material: ScanMaterial, row: int) -> dict[str, Any]:
    """One of the highest slices: what is written beside it, and its three pictures."""
    slices, image = _marked(material.slices).iloc[row], material.images[row]
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
