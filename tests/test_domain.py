"""Scans out of domain get no verdict, tumours do not put a scan there."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from twinvae.cli import app
from twinvae.decision.domain import depth_correlation, domain_of, outside
from twinvae.detect import Detection, detect_scans
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.run import Run

FACTS = {"spacing_x_mm": 1.0, "brain_ml": 1400.0, "intensity_p50": 0.45, "image_l2": 6.0}


def test_distance_from_the_healthy_median_by_hand() -> None:
    facts = [FACTS | {"brain_ml": v} for v in (1000.0, 1200.0, 1400.0, 1600.0, 1800.0)]
    domain = domain_of(facts, ["a", "b", "c", "d", "e"])
    assert domain["leave_one_out_rate"] == 0.0
    spread = 1.4826 * np.median(np.abs(np.log(np.array([1000, 1200, 1400, 1600, 1800]) / 1400)))
    assert domain["statistics"]["brain_ml"]["spread"] == pytest.approx(spread)
    assert outside(domain, FACTS | {"brain_ml": 1900.0}) == ()
    (one,) = outside(domain, FACTS | {"brain_ml": 300.0})
    assert one.robust_z == pytest.approx(np.log(300 / 1400) / spread)
    assert str(one) == (
        f"brain_ml is 300; healthy scans have 1000 to 1800 (robust z {one.robust_z:+.1f}, "
        "0.214 times their median)"
    )
    # What does not vary at all still has room: a factor of e^(6 · 0.05) for a voxel.
    assert outside(domain, FACTS | {"spacing_x_mm": 1.3}) == ()
    both = outside(domain, FACTS | {"spacing_x_mm": 2.0, "intensity_p50": 0.6})
    assert [(o.statistic, o.factor) for o in both] == [
        ("spacing_x_mm", 2.0),
        ("intensity_p50", None),
    ]


def test_healthy_scans_are_rarely_out_of_the_domain_of_the_others() -> None:
    rng = np.random.default_rng(0)
    facts = [
        {name: value * np.exp(0.1 * rng.standard_t(5)) for name, value in FACTS.items()}
        for _ in range(200)
    ]
    rate = domain_of(facts, [str(i) for i in range(200)])["leave_one_out_rate"]
    plain = 0
    for i, one in enumerate(facts):
        others = pd.DataFrame(facts[:i] + facts[i + 1 :])
        level = np.where(others.columns == "intensity_p50", others, np.log(others))
        mine = np.where(
            others.columns == "intensity_p50", list(one.values()), np.log(list(one.values()))
        )
        middle = np.median(level, axis=0)
        least = np.where(others.columns == "intensity_p50", 0.015, 0.05)
        spread = np.maximum(1.4826 * np.median(np.abs(level - middle), axis=0), least)
        beyond = (mine < level.min(axis=0)) | (mine > level.max(axis=0))
        plain += bool(((np.abs(mine - middle) / spread > 6) & beyond).any())
    assert rate == plain / 200
    assert rate < 0.03


def test_depth_tells_a_bright_rim_from_a_bright_core() -> None:
    y, x = np.mgrid[-20:21, -20:21]
    disc = x**2 + y**2 <= 18**2
    rim = np.hypot(x, y)  # grows towards the edge, so that depth falls with it
    assert depth_correlation(rim, disc) < -0.99
    assert depth_correlation(30 - rim, disc) > 0.99
    assert depth_correlation(7 * (30 - rim) + 2, disc) == pytest.approx(
        depth_correlation(-rim, disc)
    )
    assert depth_correlation(np.ones_like(rim), disc) == 0
    whole = depth_correlation(rim[2:-2, 2:-2], np.ones((37, 37), bool))  # the brain fills the slice
    assert whole < -0.9


@pytest.fixture(scope="module")
def healthy_scan(tiny_run: Run) -> Path:
    """A healthy test scan: no threshold has seen it."""
    index = SliceStore.open(tiny_run.slices).index
    test = index[(index["role"] == "healthy") & (index["split"] == "test")]
    return next(
        (tiny_run.folder / "cohort/healthy").glob(f"*{test['subject'].iloc[0]}/anat/*T2w*gz")
    )


def changed(scan: Path, folder: Path, how: str) -> Path:
    """The scan with another contrast or scale, or with a lesion of 6 cm."""
    image = nibabel.load(scan)
    data = np.asarray(image.dataobj, np.float32)
    brain = data > 0
    affine = image.affine.copy()
    if how == "flipped":  # dark becomes bright, as from T2w to T1w
        data = np.where(brain, data[brain].max() + 1 - data, 0)
    elif how == "squared":
        data = data**2
    elif how == "ten times":
        data = data * 10
    elif how == "smaller voxels":
        affine[:3, :3] *= 0.7
    elif how == "lesion":
        middle = np.add(ndimage.center_of_mass(brain), [6, 0, 0])
        far = np.linalg.norm(np.indices(brain.shape).T - middle, axis=-1).T * 4.0  # 4 mm voxels
        data = np.where(brain & (far < 30), np.percentile(data[brain], 97), data)
    path = folder / f"{how.replace(' ', '_')}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), affine), path)
    return path


def detect(run: Run, scan: Path, out: Path, **options) -> Detection:
    return detect_scans(run.bundle, [scan], out, threads=1, **options)[0]


@pytest.mark.parametrize("how", ["as it is", "ten times", "lesion"])
def test_healthy_scans_in_any_unit_and_large_lesions_are_judged(
    tiny_run: Run, healthy_scan: Path, tmp_path: Path, how: str
) -> None:
    found = detect(tiny_run, changed(healthy_scan, tmp_path, how), tmp_path / "out")
    assert found.judgement.outside == ()
    assert found.verdict is not None
    assert set(found.slices["domain"]) == {"inside"}


@pytest.mark.parametrize(
    ("how", "statistic"),
    [("flipped", "intensity_p"), ("squared", "intensity_p"), ("smaller voxels", "spacing")],
)
def test_other_contrasts_and_grids_get_no_verdict_and_every_output_says_so(
    tiny_run: Run, healthy_scan: Path, tmp_path: Path, capsys, how: str, statistic: str
) -> None:
    found = detect(tiny_run, changed(healthy_scan, tmp_path, how), tmp_path / "out")
    assert found.verdict is None
    assert any(one.statistic.startswith(statistic) for one in found.judgement.outside)
    stored = read_json(found.folder / "verdict.json")
    assert stored["verdict"] == "none: out of domain"
    assert [stored[k] for k in ("abnormal", "abnormal_slices", "p_value")] == [None, None, None]
    assert stored["domain"]["state"] == "outside"
    assert stored["domain"]["outside"][0]["says"] in (found.folder / "report.html").read_text()
    table = pd.read_csv(found.folder / "slices.tsv", sep="\t")
    assert table["abnormal"].isna().all()
    assert set(table["domain"]) == {"outside"}
    summary = pd.read_csv(tmp_path / "out/summary.tsv", sep="\t")
    assert summary["verdict"].tolist() == ["none: out of domain"]
    assert statistic in summary["outside"].iloc[0]
    said = capsys.readouterr().err
    assert "OUT OF DOMAIN" in said
    assert statistic in said


def test_force_gives_a_verdict_and_says_that_it_did(
    tiny_run: Run, healthy_scan: Path, tmp_path: Path
) -> None:
    scan = changed(healthy_scan, tmp_path, "flipped")
    arguments = ["detect", str(tiny_run.bundle), str(scan), "--threads", "1", "-o"]
    plain = CliRunner().invoke(app, [*arguments, str(tmp_path / "plain")])
    assert plain.exit_code == 0
    assert "NO VERDICT" in plain.output
    forced = CliRunner().invoke(app, [*arguments, str(tmp_path / "forced"), "--force"])
    assert forced.exit_code == 0
    stored = read_json(tmp_path / "forced/flipped/verdict.json")
    assert stored["verdict"] in ("abnormal", "healthy")
    assert stored["domain"]["state"] == "forced"
    assert "the verdict was forced" in (tmp_path / "forced/flipped/report.html").read_text()
