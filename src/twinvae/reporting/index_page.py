"""``index.html``: one table of all scans that ``detect`` judged into a folder, to sort."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from twinvae.errors import OutputError
from twinvae.files import write_text
from twinvae.reporting.text import render

INDEX = "index.html"
_OURS = '<meta name="generator" content="twinvae index">'
_LOOKED_THROUGH = 2000  # characters in which the line above stands
_SHOWN = {"abnormal": ("bad", "!", "abnormal"), "healthy": ("good", "✓", "no abnormality found")}


def check_index(folder: Path) -> None:
    """Raise ``OutputError`` when ``folder`` has an ``index.html`` that twinvae did not write."""
    path = folder / INDEX
    if not path.exists():
        return
    found = path.read_text("utf-8", "replace")[:_LOOKED_THROUGH] if path.is_file() else ""
    if _OURS not in found:
        raise OutputError(
            f"{path}: expected no such file or the index that twinvae wrote here, found another; "
            f"move it away or choose another folder"
        )


PathOf = Callable[[str], str]
"""Name of a scan → path of a file of its."""


def write_index(folder: Path, summary: pd.DataFrame, page: PathOf, thumbnail: PathOf) -> None:
    """Write the index of ``folder`` from its ``summary`` (as ``summary.tsv``, cells as text).

    ``page``, ``thumbnail``: where these files of each scan are, from ``folder``. Raises
    ``OutputError`` as ``check_index`` does.
    """
    check_index(folder)
    write_text(folder / INDEX, index_html(folder, summary, page, thumbnail))


def index_html(folder: Path, summary: pd.DataFrame, page: PathOf, thumbnail: PathOf) -> str:
    """The text of the index, as ``write_index`` writes it."""
    lines = [_line(folder, row, page, thumbnail) for row in summary.to_dict("records")]
    abnormal = sum(line["verdict"] == "abnormal" for line in lines)
    judged = sum(line["verdict"] in _SHOWN for line in lines)
    return render("index.html.j2", ours=_OURS, lines=lines, abnormal=abnormal, judged=judged)


def _line(folder: Path, row: Mapping[Any, str], page: PathOf, thumbnail: PathOf) -> dict[str, Any]:
    name = row["name"]
    files = {"page": page(name), "picture": thumbnail(name)}
    tone, sign, says = _SHOWN.get(row["verdict"], ("unclear", "?", row["verdict"]))
    return {
        **{key: row[key] for key in ("name", "verdict", "domain", "outside", "abnormal_slices")},
        "left_out": row.get("left_out", ""),  # of patients of several contrasts
        "tone": tone,
        "sign": sign,
        "says": says,
        "score": _short(row["value"]),
        "times": _short(_times(row["value"], row["threshold"])),
        "p_value": _short(row["p_value"]),
        **{key: quote(file) if (folder / file).is_file() else "" for key, file in files.items()},
    }


def _times(value: str, threshold: str) -> str:
    """The scan's statistic in times its threshold, where both are known and that has a sense."""
    if not value or not threshold or float(threshold) <= 0:
        return ""
    return str(float(value) / float(threshold))


def _short(value: str) -> str:
    return f"{float(value):.3g}" if value else ""
