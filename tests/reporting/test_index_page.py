"""The index of many scans: every row, links that lead somewhere, nobody's file lost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from html_pages import parsed

from twinvae.errors import OutputError
from twinvae.reporting.index_page import check_index, write_index

ROWS = pd.DataFrame(
    {
        "name": ["a b", "c<d", "e"],
        "verdict": ["abnormal", "healthy", "none: out of domain"],
        "value": ["3.0", "0.5", ""],
        "threshold": ["1.5", "1.5", ""],
        "p_value": ["0.024", "1.0", ""],
        "abnormal_slices": ["4", "0", ""],
        "domain": ["inside", "inside", "outside"],
        "outside": ["", "", "p50 is 0.9"],
    }
)
PATHS = ("{}/report.html".format, "{}/small.png".format)


def test_every_scan_has_its_row_and_its_link(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    for name in ("report.html", "small.png"):
        (tmp_path / "a b" / name).touch()
    write_index(tmp_path, ROWS, *PATHS)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    for said in ("3 scans", "2 judged, 1 of them abnormal; 1 without a verdict", "c&lt;d",
                 "no abnormality found", "p50 is 0.9", ">0.333<", 'href="a%20b/report.html"',
                 'src="a%20b/small.png"', "Research software. Not for clinical use."):  # fmt: skip
        assert said in text, said
    assert text.count("href=") == 1  # the others' pages are not there
    parsed(text.replace('src="a%20b/small.png"', "").replace('href="a%20b/report.html"', ""))
    write_index(tmp_path, ROWS.head(1), *PATHS)
    assert "1 scan<" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_index_that_is_not_ours_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "index.html"
    path.mkdir() if kind == "folder" else path.write_text("<h1>Mine</h1>")
    for refused in (lambda: check_index(tmp_path), lambda: write_index(tmp_path, ROWS, *PATHS)):
        with pytest.raises(OutputError, match=r"index\.html: expected no such file"):
            refused()
    assert path.is_dir() or path.read_text() == "<h1>Mine</h1>"
