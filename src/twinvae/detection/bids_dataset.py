"""What is said of a whole BIDS derivative data set, made anew from the results that lie there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from twinvae import __version__
from twinvae.detection.bids_columns import PARTICIPANTS, SCANS, SUMMARY_COLUMNS
from twinvae.detection.place import HOME, MADE_FROM, PAGE, THUMBNAIL, Place, alone, bids_path
from twinvae.errors import DataError
from twinvae.files import read_json, write_json, write_table, write_text
from twinvae.outputs import check_spread, spread
from twinvae.reporting.index_page import INDEX, index_html

BIDS_VERSION = "1.10.0"
_FILES = ("dataset_description.json", "README", ".bidsignore", "participants.tsv",
          "participants.json", "scans.json", "summary.tsv", "summary.json", INDEX)  # fmt: skip
_IGNORED = """\
# What BIDS has no names for: pages, figures, tables of slices, verdicts, the table of all scans.
/*.html
sub-*/figures
*_desc-slices_*
*_desc-verdict_*
/summary.tsv
/summary.json
"""
_README = """\
Results of twinvae {version}, as BIDS derivatives. Research software, not for clinical use.

index.html leads to the page of each scan; summary.tsv and summary.json hold the same numbers.
For each scan: desc-healthy, what it would look like, healthy; desc-residual, the scan less that;
desc-abnormality, the map behind the verdict in times its threshold; desc-lesions_dseg, places that
stand out, listed in the TSV file beside it; desc-slices, every score of every slice; desc-verdict,
everything about the verdict. The hidden folder {home} is twinvae's own.
"""


@dataclass(frozen=True)
class Stored:
    """Results that lie in a derivative data set."""

    place: Place
    summary: dict[str, Any]
    verdicts: dict[str, dict[str, Any]]
    """Part of the results (a contrast, or empty) → its verdict.json."""
    bundle_sha256: str

    @property
    def subject(self) -> str:
        """`sub-01`."""
        return self.place.name.split("_")[0]


def stored(out: Path, source: Path) -> list[Stored]:
    """All results that lie in ``out``, by name; those whose files were taken away are not."""
    found = []
    for file in sorted((out / HOME).glob(f"sub-*/{MADE_FROM}")):
        made = read_json(file)
        place = Place(out, file.parent.name, dataset=source, stems=made["stems"])
        parts = {part: place.path(f"{part}/verdict.json") for part in place.stems}
        if place.path("verdict.json").is_file():
            verdicts = {part: read_json(path) for part, path in parts.items() if path.is_file()}
            found.append(Stored(place, made["summary"], verdicts, made["bundle_sha256"]))
    return found


def check_dataset(out: Path) -> None:
    """Raise ``OutputError`` when somebody else's file lies where one of the data set's is to be."""
    check_spread(_home(out), "tables of a data set", [_place(out, name) for name in _FILES])


def write_dataset(out: Path, source: Path) -> None:
    """Write what is said of all results in ``out``, derivatives of the data set ``source``.

    Raises ``DataError`` when there are none, and ``OutputError`` as ``check_dataset`` does.
    """
    with alone(out):
        found = stored(out, source)
        if not found:
            raise DataError(f"{out}: expected results of some participant, found none")
        with spread(_home(out), "tables of a data set", lambda name: _place(out, name)) as room:
            write_json(room / "dataset_description.json", _description(out, source, found))
            write_text(room / "README", _README.format(version=__version__, home=HOME))
            write_text(room / ".bidsignore", _IGNORED)
            _write_table(room / "participants.tsv", _participants(found), PARTICIPANTS)
            _write_scans(room, found)
            summary = pd.DataFrame([one.summary for one in found])
            _write_table(room / "summary.tsv", summary, SUMMARY_COLUMNS)
            cells = summary.astype(object).fillna("").astype(str)
            pages = index_html(out, cells, partial(_path, PAGE), partial(_path, THUMBNAIL))
            write_text(room / INDEX, pages)


def _path(role: str, name: str) -> str:
    return bids_path(name, role).as_posix()


def _home(out: Path) -> Path:
    return Path(os.path.normpath(out / HOME / "dataset"))


def _place(out: Path, name: str) -> Path:
    return Path(os.path.normpath(out / name))


def _write_table(path: Path, table: pd.DataFrame, about: dict[str, dict[str, Any]]) -> None:
    """The table with ``n/a`` where nothing is known, and what its columns hold beside it."""
    write_table(path, table.astype(object).where(table.notna(), "n/a").replace("", "n/a"))
    write_json(path.with_suffix(".json"), {c: about[c] for c in table if c in about})


def _description(out: Path, source: Path, found: Sequence[Stored]) -> dict[str, Any]:
    """dataset_description.json: by which bundles, of which data set."""
    bundles = {one.verdicts[""]["bundle"]: one.bundle_sha256 for one in found}
    says = "; ".join(f"bundle {name}, sha256 {sha}" for name, sha in sorted(bundles.items()))
    about = read_json(source / "dataset_description.json") if _described(source) else {}
    name = about.get("Name", source.resolve().name)
    return {
        "Name": f"twinvae: what is abnormal in {name}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "twinvae",
                "Version": __version__,
                "Description": f"{says}. Research software, not for clinical use.",
            }
        ],
        "SourceDatasets": [{"URL": source.resolve().as_uri()}],
        "DatasetLinks": {"raw": _link(out, source)},
        **{key: about[key] for key in ("License", "Authors") if key in about},
    }


def _described(source: Path) -> bool:
    return (source / "dataset_description.json").is_file()


def _link(out: Path, source: Path) -> str:
    """From ``out`` to ``source``; relative where it lies in there and so is moved with it."""
    inside = source.resolve() in out.resolve().parents
    return os.path.relpath(source.resolve(), out.resolve()) if inside else source.resolve().as_uri()


def _participants(found: Sequence[Stored]) -> pd.DataFrame:
    """One row a participant: how many results, and how many of each verdict."""
    words: dict[str, list[str]] = defaultdict(list)
    for one in found:
        words[one.subject].append(one.verdicts[""]["verdict"])
    return pd.DataFrame(
        {
            "participant_id": list(words),
            "results": [len(each) for each in words.values()],
            "abnormal": [each.count("abnormal") for each in words.values()],
            "healthy": [each.count("healthy") for each in words.values()],
        }
    )


def _write_scans(room: Path, found: Sequence[Stored]) -> None:
    """``sub-01[_ses-1]_scans.tsv``: what is said of each scan, a row each."""
    rows: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        for part, said in one.verdicts.items():
            if "scan" not in said:  # of several contrasts together
                continue
            image = bids_path(one.place.stems[part], "healthy.nii.gz")
            visit = image.parents[1]
            known = {c: said.get(c) for c in SCANS if c != "filename"}
            known["abnormal_slices"] = known["abnormal_slices"] and len(known["abnormal_slices"])
            name = image.relative_to(visit).as_posix()
            file = visit / f"{'_'.join(visit.parts)}_scans.tsv"
            rows[file].append({"filename": name, **known})
    for file, lines in rows.items():
        table = pd.DataFrame(lines, columns=list(SCANS)).astype(object)
        write_table(room / file, table.where(table.notna(), "n/a"))
    write_json(room / "scans.json", {c: about for c, about in SCANS.items() if c != "filename"})
