"""Results as BIDS derivatives have them: tables with ``n/a``, and a JSON file beside each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinvae.cohort.manifest import read_strings
from twinvae.detection.look import Looked
from twinvae.detection.place import Place
from twinvae.files import write_json, write_table
from twinvae.scoring import MAPS, SCORES
from twinvae.scoring.table import CONTEXT_SUFFIX

RAW = "raw"
"""What BIDS URIs call the data set that scans come from."""
MISSING = "n/a"
_SLICES: dict[str, dict[str, Any]] = {
    "slice": {"Description": "Number along z on the scan's own grid after reorientation to RAS"},
    "position": {"Description": "0 at the lowest slice of the brain, 1 at its highest"},
    "brain_px": {"Description": "Pixels inside the brain, before the resize"},
    "spacing_mm": {"Description": "In-plane spacing of the grid of brain_px", "Units": "mm"},
    "threshold": {"Description": "From which value of the deciding score on a slice is abnormal"},
    "p_value": {"Description": "Conformal p-value of the deciding score among healthy slices"},
    "abnormal": {"Description": "Whether the deciding score reaches the threshold"},
    "abnormal_fdr": {"Description": "Whether it is a discovery at the false discovery rate"},
    "domain": {
        "Description": "Whether the scan is like the healthy scans behind the thresholds",
        "Levels": {
            "inside": "it is",
            "outside": "it is not: no verdict",
            "forced": "it is not, and was judged all the same",
        },
    },
    "thresholds_from": {"Description": "The scans that thresholds were set on"},
}
_LESIONS: dict[str, dict[str, Any]] = {
    "index": {"Description": "Value in the image; 1: the highest peak", "Format": "integer"},
    "name": {"Description": "Side, and the outer thirds of the brain's own extent; no atlas"},
    "volume_ml": {"Description": "Volume of the cluster of a smoothed map", "Units": "mL"},
    "peak": {"Description": "Peak of the deciding map, in times its threshold"},
}
_AXES = {"x": "right", "y": "anterior", "z": "superior"}
_IMAGES: dict[str, dict[str, Any]] = {
    "healthy": {
        "Description": "What the scan would look like, healthy (x_h), by the healthy model; 0 "
        "outside the brain",
        "Units": "arbitrary",
    },
    "residual": {
        "Description": "Scan less healthy reconstruction, as the models see both, in [-1, 1]",
        "Units": "arbitrary",
    },
    "brain_mask": {"Description": "The brain that was found in the whole head", "Type": "Brain"},
    "lesions": {
        "Description": "Clusters where the deciding map reaches its threshold: places that stand "
        "out, in healthy scans too; no segmentation of a tumour",
    },
}


def describe(room: Path, place: Place, looked: Mapping[str, Looked]) -> None:
    """Turn tables in ``room`` into those of BIDS and write a JSON file for each table and image.

    ``room``: as ``write_scan`` or ``write_patient`` left it; ``looked``: part of the results (a
    contrast, or empty for all) → the scan. Does nothing where ``place`` is a plain folder.
    """
    if place.dataset is None:
        return
    for part, one in looked.items():
        folder = room / part
        for path in sorted(folder.glob("*.nii.gz")):
            name = path.name.removesuffix(".nii.gz")
            columns = _lesion_columns(folder) if name == "lesions" else {}
            about = _about(name, one) | _sources(place, part)
            write_json(folder / f"{name}.json", about | columns)
    for path in sorted(room.rglob("slices.tsv")):
        table = read_strings(path, "\t").replace("", MISSING)
        write_table(path, table)
        described = {c: _SLICES.get(c) or score_about(c) for c in map(str, table)}
        write_json(path.with_suffix(".json"), described)


def score_about(name: str) -> dict[str, Any]:
    """What a column of scores holds."""
    known = SCORES.get(name.removesuffix(CONTEXT_SUFFIX))
    summary = f": {known.summary}" if known else ""
    context = ", set among the scan's other slices" if name.endswith(CONTEXT_SUFFIX) else ""
    return {"Description": f"Score {name}{summary}{context}; larger = more abnormal"}


def _lesion_columns(folder: Path) -> dict[str, Any]:
    """Make lesions.tsv the list of the segmentation's values; what its columns hold."""
    path = folder / "lesions.tsv"
    table = read_strings(path, "\t").replace("", MISSING)
    table = table.rename(columns={"lesion": "index", "place": "name"})
    write_table(path, table)
    return {column: _LESIONS.get(column) or _coordinate(column) for column in map(str, table)}


def _coordinate(column: str) -> dict[str, Any]:
    what = "Peak" if column.startswith("peak_") else "Centre"
    towards = _AXES[column.removesuffix("_mm")[-1]]
    return {"Description": f"{what} in the scan's world, towards {towards}", "Units": "mm"}


def _about(name: str, looked: Looked) -> dict[str, Any]:
    if name == "abnormality":
        deciding, level = looked.places.deciding.map, looked.places.level.says
        what = f"The map behind the score, in times its threshold: {deciding.summary}. {level}"
        about = {"Description": what, "Units": "arbitrary"}
    elif name in _IMAGES:
        about = _IMAGES[name]
    else:
        known = MAPS[name.removesuffix("_positive")]
        about = {"Description": f"{known.summary}; larger = more abnormal", "Units": "arbitrary"}
    return about | {"SkullStripped": True}


def _sources(place: Place, part: str) -> dict[str, Any]:
    uris = [_uri(path, place) for path in place.images[part]]
    return {"Sources": uris, "SpatialReference": uris[0]}


def _uri(path: Path, place: Place) -> str:
    root = (place.dataset or place.out).absolute()
    return f"bids:{RAW}:{path.absolute().relative_to(root).as_posix()}"
