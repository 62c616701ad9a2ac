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
from twinvae.decision.domain import distances, domain_of, outside
from twinvae.detect import Detection, detect_scans
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.run import Run

FACTS = {"slice_mm": 1.0, "brain_ml": 1400.0, "intensity_p50": 0.45, "white_over_grey": -0.4}


def test_distance_from_the_healthy_median_by_hand() -> None:
    facts = [FACTS | {"brain_ml": v} for v in (1000.0, 1200.0, 1400.0, 1600.0, 1800.0)]
    domain = domain_of(facts, ["a", "b", "c", "d", "e"])
    assert domain["leave_one_out_rate"] == 0.0
    spread = 1.4826 * np.median(np.abs(np.log(np.array([1000, 1200, 1400, 1600, 1800]) / 1400)))
    assert domain["statistics"]["brain_ml"]["spread"] == pytest.approx(spread)
    assert outside(domain, FACTS | {"brain_ml": 1900.0}) == ()
    (one,) = outside(domain, FACTS | {"brain_ml": 300.0})
    assert one.robust_z == pytest.approx(np.log(300 / 1400) / spread)
    assert distances(domain, FACTS | {"brain_ml": 300.0})["brain_ml"] == one.robust_z
    assert str(one) == (
        f"brain_ml is 300; healthy scans have 1000 to 1800 (z {one.robust_z:+.1f}, limit 6, "
        "0.214 times their median)"
    )
    both = outside(domain, FACTS | {"slice_mm": 4.0, "intensity_p50": 0.7})
    assert [(o.statistic, o.factor) for o in both] == [("slice_mm", 4.0), ("intensity_p50", None)]


@pytest.mark.parametrize(("inside", "out"), [(2.0, 2.1), (0.25, 0.2)])
def test_slices_twice_as_thick_or_a_quarter_as_thick_are_inside(inside: float, out: float) -> None:
    domain = domain_of([FACTS] * 3, ["a", "b", "c"])
    assert outside(domain, FACTS | {"slice_mm": inside}) == ()
    (one,) = outside(domain, FACTS | {"slice_mm": out})
    assert one.statistic == "slice_mm"


def test_the_order_of_tissues_is_judged_by_its_sign_not_by_the_healthy_spread() -> None:
    """However little healthy scans differ, weak order is no reason; the opposite one is."""
    facts = [FACTS | {"white_over_grey": v} for v in (-0.41, -0.4, -0.39)]
    domain = domain_of(facts, ["a", "b", "c"])
    for inside in (-0.9, -0.1, 0.0, 0.11):
        assert outside(domain, FACTS | {"white_over_grey": inside}) == ()
    (one,) = outside(domain, FACTS | {"white_over_grey": 0.13})
    assert one.statistic == "white_over_grey"
    none = domain_of([FACTS | {"white_over_grey": 0.0}] * 3, ["a", "b", "c"])
    assert outside(none, FACTS | {"white_over_grey": 0.25}) == ()  # no order to contradict


def test_healthy_scans_are_rarely_out_of_the_domain_of_the_others() -> None:
    rng = np.random.default_rng(0)
    names = [name for name in FACTS if name != "white_over_grey"]
    facts = [{n: FACTS[n] * np.exp(0.1 * rng.standard_t(5)) for n in names} for _ in range(200)]
    rate = domain_of(facts, [str(i) for i in range(200)])["leave_one_out_rate"]
    least = {"slice_mm": np.log(2.05) / 6, "brain_ml": 0.1, "intensity_p50": 0.03}
    plain = 0
    for i, one in enumerate(facts):
        others = pd.DataFrame(facts[:i] + facts[i + 1 :])
        odd = False
        for name in names:
            scale = np.asarray if name == "intensity_p50" else np.log
            level, mine = scale(others[name]), scale(one[name])
            middle = np.median(level)
            spread = max(1.4826 * np.median(np.abs(level - middle)), least[name])
            beyond = mine < level.min() or mine > level.max()
            odd |= bool(abs(mine - middle) / spread > 6 and beyond)
        plain += odd
    assert rate == plain / 200
    assert rate < 0.03


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
    [("flipped", "intensity_p"), ("squared", "intensity_p"), ("smaller voxels", "brain_ml")],
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
