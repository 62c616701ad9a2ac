"""Bundles calibrated anew on a site's own scans."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

from twinvae.commands.app import app
from twinvae.decision import calibrate, scan_verdict, transfer
from twinvae.detection.bundle import read_bundle
from twinvae.detection.detect import detect_scans
from twinvae.detection.recalibrate import Site, calibrate_on_site
from twinvae.errors import (
    CalibrationError,
    ConfigError,
    DataError,
    OutputError,
    PartialFailureError,
)
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run
from twinvae.scoring import read_scores

CPU = {"compute.threads": 1, "compute.jobs": 1, "compute.device": "cpu"}


def first_threshold(calibration: Mapping[str, Any]) -> float:
    """Of slices, by the score and at the percentile that verdicts use."""
    entry = calibration["scores"][calibration["decision_score"]]
    return float(entry["slice"]["thresholds"][0]["threshold"])


def site_of(run: Run, role: str, splits: tuple[str, ...], folder: Path) -> Path:
    """The run's scans of some splits, as a data set of their own."""
    index = SliceStore.open(run.slices).index
    mine = index[(index["role"] == role) & index["split"].isin(splits)]
    source = run.folder / "cohort" / role
    for subject in mine["subject"].unique():
        for place in source.rglob(f"sub-{subject}"):
            shutil.copytree(place, folder / place.relative_to(source))
    for extra in ("dataset_description.json", "derivatives/brainmask/dataset_description.json"):
        if (source / extra).is_file():
            shutil.copyfile(source / extra, folder / extra)
    return folder


def test_the_runs_own_validation_scans_give_back_its_thresholds(
    tiny_run: Run, tmp_path: Path
) -> None:
    scans = site_of(tiny_run, "healthy", ("val",), tmp_path / "clinic")
    site = Site(scans, "healthy", by="A. Physicist")
    done = calibrate_on_site(tiny_run.bundle, site, tmp_path / "new", overrides=CPU)
    old, new = read_bundle(tiny_run.bundle), read_bundle(tmp_path / "new")
    name = old.config.decision.score
    assert first_threshold(new.calibration) == pytest.approx(
        first_threshold(old.calibration), rel=1e-5
    )
    for key, entry in old.domain["statistics"].items():
        assert new.domain["statistics"][key] == pytest.approx(entry, rel=1e-4), key
    assert new.calibration["origin"]["says"] == (
        "Thresholds were set on 3 healthy scans of 3 subjects of clinic."
    )
    assert (done["by"], done["n_scans"]) == ("A. Physicist", 3)
    assert new.about["calibrated"] == [done]
    assert new.calibration["scores"][name]["n_subjects"] == 3
    text = "".join(p.read_text() for p in (tmp_path / "new").glob("*.json"))
    assert not any(s in text for s in SliceStore.open(tiny_run.slices).index["subject"].unique())
    # And once more: the history grows.
    calibrate_on_site(tmp_path / "new", site, tmp_path / "newer", overrides=CPU)
    assert len(read_bundle(tmp_path / "newer").about["calibrated"]) == 2


def test_broken_scans_are_skipped_and_too_few_are_refused(tiny_run: Run, tmp_path: Path) -> None:
    scans = site_of(tiny_run, "healthy", ("val",), tmp_path / "clinic")
    broken = next(scans.glob("sub-*/anat/*T2w.nii.gz"))
    broken.write_bytes(broken.read_bytes()[:300])
    site = Site(scans, "healthy")
    with pytest.raises(PartialFailureError, match=r"written without 1 scans[\s\S]*T2w\.nii\.gz"):
        calibrate_on_site(tiny_run.bundle, site, tmp_path / "new", overrides=CPU)
    assert read_bundle(tmp_path / "new").domain["n_scans"] == 2
    with pytest.raises(DataError, match=broken.name):
        calibrate_on_site(tiny_run.bundle, site, tmp_path / "no", overrides=CPU, strict=True)
    more = CPU | {"decision.scan_percentile": 90}
    with pytest.raises(
        CalibrationError, match="percentile 90 needs at least 10 healthy validation"
    ):
        calibrate_on_site(tiny_run.bundle, site, tmp_path / "no", overrides=more)
    with pytest.raises(ConfigError, match=r"scoring\.scores: expected a setting of decision"):
        calibrate_on_site(tiny_run.bundle, site, tmp_path / "no", overrides={"scoring.scores": []})
    with pytest.raises(
        ConfigError, match=r"decision\.rule: expected a setting of compute with mixed"
    ):
        calibrate_on_site(
            tiny_run.bundle, Site(scans, "mixed"), tmp_path / "no", overrides={"decision.rule": "x"}
        )
    with pytest.raises(OutputError, match="expected another place for the output than the input"):
        calibrate_on_site(tiny_run.bundle, site, tiny_run.bundle, overrides=CPU)
    assert not (tmp_path / "no").exists()


def test_unlabelled_scans_move_thresholds_and_every_output_says_so(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path, capsys
) -> None:
    scans = site_of(tiny_run, "mixed", ("val", "test"), tmp_path / "ward")
    arguments = ["calibrate", str(tiny_run.bundle), "--mixed", str(scans), "--threads", "1"]
    new = tmp_path / "new"
    done = CliRunner().invoke(app, [*arguments, "--jobs", "1", "-o", str(new), "--by", "me"])
    assert done.exit_code == 0, done.output
    assert "NO GUARANTEE" in done.output
    (one,) = detect_scans(new, [tiny_scan], tmp_path / "out", threads=1)
    stored = read_json(one.folder / "verdict.json")
    assert stored["calibration"]["origin"]["kind"] == "site_mixed"
    assert stored["calibration"]["rule"]["guarantee"].startswith("none")
    assert set(one.slices["thresholds_from"]) == {"site_mixed"}
    assert "NO GUARANTEE" in (one.folder / "report.html").read_text()
    assert "NO GUARANTEE" in capsys.readouterr().err
    name = read_bundle(new).config.decision.score
    for bound in read_bundle(new).calibration["scores"][name]["slice"]["thresholds"]:
        assert bound["cross_validated_fpr"] is None


def test_moved_thresholds_follow_a_change_of_level_and_spread(tiny_run: Run) -> None:
    scores = read_scores(tiny_run.scores)
    options = tiny_run.config.decision.model_copy(update={"rule": "size_linear"})
    calibration = calibrate(scores, options)
    healthy = scores[(scores["role"] == "healthy") & (scores["split"] == "val")]
    name = options.score
    site = healthy.assign(**{name: 3.0 * healthy[name] + 2.0})
    moved = transfer(calibration, site)
    old = calibration["scores"][name]["slice"]["thresholds"][0]["threshold"]
    assert first_threshold(moved) == pytest.approx(3 * old + 2)
    for subject in healthy["subject"].unique():
        mine = (healthy["subject"] == subject).to_numpy()
        here, there = scan_verdict(calibration, healthy[mine]), scan_verdict(moved, site[mine])
        assert (here.abnormal, here.p_value) == (there.abnormal, there.p_value)
    with pytest.raises(CalibrationError, match="expected slice scores that vary"):
        transfer(calibration, healthy.assign(**{name: 1.0}))


def test_tumours_among_unlabelled_slices_move_thresholds_up(tiny_run: Run) -> None:
    """Normal scores, a fifth of them of tumours far above: how far is known."""
    rng = np.random.default_rng(0)
    healthy = read_scores(tiny_run.scores).query("role == 'healthy' and split == 'val'")
    draws = healthy.sample(40000, replace=True, random_state=0).reset_index(drop=True)
    name = tiny_run.config.decision.score
    draws[name] = rng.normal(size=len(draws))
    site = draws.copy()
    site.loc[rng.uniform(size=len(site)) < 0.2, name] += 9.0
    options = tiny_run.config.decision.model_copy(update={"percentiles": (95.0,)})
    moved = first_threshold(transfer(calibrate(draws, options), site))
    median, quarter = norm.ppf([0.5 / 0.8, 0.25 / 0.8])  # of the unlabelled scores
    expected = median + norm.ppf(0.95) * (median - quarter) / -norm.ppf(0.25)
    assert moved == pytest.approx(expected, abs=0.1)
    assert norm.ppf(0.95) < moved < 2.4  # tumours are missed, not invented
    assert np.percentile(site[name], 95) > 7  # while a percentile of the unlabelled slices is lost


def test_the_command_tells_runs_from_bundles(tiny_run: Run, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run.folder, tmp_path / "run")
    command = CliRunner().invoke
    done = command(app, ["calibrate", str(run)])
    assert "calibrate: nothing changed" in done.output
    done = command(app, ["calibrate", str(run), "--force", "--set", "decision.rule=size_binned"])
    assert "calibrate: done" in done.output, done.output
    assert read_bundle(run / "bundle").calibration["rule"]["name"] == "size_binned"
    for arguments, says in (
        ([str(run / "bundle")], "expected one of --healthy and --mixed for a bundle"),
        ([str(run), "--healthy", "x"], "expected neither --healthy nor --mixed"),
        ([str(run / "bundle"), "--healthy", "x", "--mixed", "y"], "expected one of"),
    ):
        with pytest.raises(ConfigError, match=says):
            raise command(app, ["calibrate", *arguments]).exception
