"""The notebooks of examples/ run from top to bottom, and what they say is so."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

import twinvae

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def run_notebook(path: Path) -> dict[str, Any]:
    """Run the code cells in one namespace, showing what each ends with; return the namespace."""
    names: dict[str, Any] = {}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        where = f"{path.name}, cell {number}"
        exec(compile(tree, where, "exec"), names)
        if isinstance(shown, ast.Expr):
            value = eval(compile(ast.Expression(shown.value), where, "eval"), names)
            getattr(value, "_repr_html_", lambda: "")()
    return names


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "comparing_scores", "first_verdict", "own_healthy_scans",
    ]  # fmt: skip


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_small_empty_and_say_what_they_are_not(path: Path) -> None:
    book = json.loads(path.read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    cells = book["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell["cell_type"] in ("markdown", "code")
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert "Not for clinical use" in "".join(cells[0]["source"])
    assert path.stat().st_size < 20_000


def test_first_verdict() -> None:
    names = run_notebook(_book("first_verdict"))
    assert names["result"].verdict == "abnormal"
    assert names["detector"].predict(names["healthy"]).verdict == "healthy"
    assert Path("first_verdict/result/report.html").is_file()
    assert len(names["result"].lesions)
    plt.close("all")


def test_own_healthy_scans() -> None:
    names = run_notebook(_book("own_healthy_scans"))
    before, after = names["before"], names["after"]
    assert after.threshold != before.threshold
    assert after.p_value == pytest.approx(1 / 9)
    assert "8 healthy" in after.warnings[0]
    assert twinvae.read_bundle(names["ours"]).about["calibrated"][0]["site"] == "our scanner"


def test_comparing_scores() -> None:
    names = run_notebook(_book("comparing_scores"))
    rows, said = names["rows"], names["said"]
    assert rows.loc[("sharp", "auroc_matched"), "ci_low"] > 0.8
    assert rows.loc[("area", "auroc"), "ci_low"] > 0.6
    low, high = rows.loc[("area", "auroc_matched"), ["ci_low", "ci_high"]]
    assert low < 0.6 < rows.loc[("blunt", "auroc"), "value"]
    assert high < rows.loc[("sharp", "auroc_matched"), "ci_low"]
    assert said["sharp"] != said["area"]
    plt.close("all")


def _book(name: str) -> Path:
    return next(path for path in NOTEBOOKS if path.stem == name)
