"""Detection: the run's own numbers on a scan, maps on its grid, bundles that work alone."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tiny import TINY, tiny_config
from twinvae.config import Register
from twinvae.detection.bundle import read_bundle
from twinvae.detection.detect import detect_scans
from twinvae.detection.page import slice_places
from twinvae.errors import (
    ConfigError,
    DataError,
    OutputError,
    StageError,
)
from twinvae.evaluation import read_metrics
from twinvae.files import read_json, write_json
from twinvae.imaging import ScanFiles, SliceStore, fit_recipe, prepare_scan
from twinvae.planting import Planting
from twinvae.runs.folder import Run
from twinvae.runs.planted_auroc import plant
from twinvae.runs.stages import run_stage, run_stages
from twinvae.scoring import map_rows, read_scores

IN_CONTEXT = "residual_mirror_zscore_local_context"


@pytest.fixture(scope="module")
def detected(tiny_run: Run, tmp_path_factory):
    """Every test scan of the mixed source, judged by the run's bundle."""
    index = SliceStore.open(tiny_run.slices).index
    test = index[(index["role"] == "mixed") & (index["split"] == "test")]
    scans = [_scan(tiny_run, s) for s in test["subject"].unique()]
    out = tmp_path_factory.mktemp("detected")
    masks = [_brain_mask(tiny_run, s) for s in test["subject"].unique()]
    return detect_scans(tiny_run.bundle, scans, out, brain_masks=masks, threads=1), out


def _scan(run: Run, subject: str) -> Path:
    return next((run.folder / "cohort/mixed").glob(f"*{subject}/anat/*_T2w.nii.gz"))


def _brain_mask(run: Run, subject: str) -> Path:
    masks = run.folder / "cohort/mixed/derivatives"
    return next(masks.rglob(f"*{subject}*brain_mask.nii.gz"))


def test_detection_gives_the_runs_own_scores(tiny_run: Run, detected) -> None:
    scores = read_scores(tiny_run.scores)
    found, _ = detected
    for one in found:
        subject = one.name.removesuffix("_T2w").removeprefix("sub-")
        mine = scores[scores["subject"].str.endswith(subject) & (scores["role"] == "mixed")]
        assert one.slices["slice"].tolist() == mine["slice"].tolist()
        assert one.slices["spacing_mm"].tolist() == mine["spacing_mm"].tolist()
        for name in [c for c in scores.columns if c in one.slices.columns[8:]]:
            np.testing.assert_allclose(one.slices[name], mine[name], rtol=1e-6, atol=1e-6)


def test_verdict_follows_from_the_thresholds(tiny_run: Run, detected) -> None:
    entry = read_json(tiny_run.calibration)["scores"]["residual_local"]
    d_star, scan = entry["slice"]["thresholds"][0]["threshold"], entry["scan"]["threshold"]
    found, out = detected
    for one in found:
        values = one.slices["residual_local"]
        assert one.slices["abnormal"].tolist() == (values >= d_star).tolist()
        assert one.verdict.abnormal == (values.max() >= scan)
        stored = read_json(one.folder / "verdict.json")
        assert stored["abnormal"] == one.verdict.abnormal
        assert stored["abnormal_slices"] == one.slices["slice"][values >= d_star].tolist()
        assert "not for clinical use" in stored["note"]
    summary = pd.read_csv(out / "summary.tsv", sep="\t")
    assert summary["name"].tolist() == [one.name for one in found]


def test_maps_lie_on_the_scans_own_grid(tiny_run: Run, detected) -> None:
    for one in detected[0]:
        scan = nibabel.load(one.image)
        for name in ("healthy", "residual"):
            image = nibabel.load(one.folder / f"{name}.nii.gz")
            assert image.shape == scan.shape
            np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
        healthy = nibabel.load(one.folder / "healthy.nii.gz").get_fdata()
        values = scan.get_fdata()
        assert (healthy != 0).sum() > 0.5 * (values > 0).sum()
        assert not healthy[values == 0].any()
        inside = healthy != 0
        assert 0.3 < np.median(healthy[inside]) / np.median(values[inside]) < 3
        page = (one.folder / "report.html").read_text()
        assert "Not for clinical use" in page


def test_places_that_stand_out_are_those_of_the_map_behind_the_score(
    tiny_run: Run, detected
) -> None:
    entry = read_json(tiny_run.calibration)["scores"]["residual_local"]
    d_star = entry["slice"]["thresholds"][0]["threshold"]
    found, out = detected
    reached = 0
    for one in found:
        lesions = pd.read_csv(one.folder / "lesions.tsv", sep="\t")
        assert (lesions["peak"] >= 1).all()
        # A smoothed map on the scan's grid lies a little below its maximum on the networks' grid.
        highest = one.slices["residual_local"].max() / d_star
        peak = lesions["peak"].max() if len(lesions) else 0.0
        assert peak <= 1.02 * highest
        assert len(lesions) or highest < 1.25
        reached += len(lesions)
        image = nibabel.load(one.image)
        for row in lesions.to_dict("records"):
            voxel = np.linalg.inv(image.affine) @ [*(row[f"peak_{a}_mm"] for a in "xyz"), 1]
            assert image.get_fdata()[tuple(np.rint(voxel[:3]).astype(int))] > 0
            words = row["place"].split(", ")
            assert words[0] in ("left", "right", "midline")
        assert (one.folder / "thumbnail.png").read_bytes().startswith(b"\x89PNG")
        assert f'href="{one.name}/report.html"' in (out / "index.html").read_text()
    assert reached > 0


def test_the_page_shows_the_scan_as_it_lies_in_the_world(tiny_run: Run, detected) -> None:
    one = detected[0][0]
    text = (one.folder / "report.html").read_text()
    found = json.loads(re.search(r'id="view-data">(.*?)</script>', text, re.DOTALL)[1])
    image = nibabel.load(one.image)
    scan = found["layers"][0]
    packed = gzip.decompress(base64.b64decode(scan["data"]))
    stored = np.frombuffer(packed, np.uint8).reshape(scan["shape"], order="F").astype(float)
    shown = scan["low"] + stored / found["levels"] * (scan["high"] - scan["low"])
    half = (scan["high"] - scan["low"]) / found["levels"] / 2
    rng = np.random.default_rng(0)
    for voxel in rng.integers(0, scan["shape"], (50, 3)):
        world = np.array(found["affine"]) @ [*voxel, 1]
        there = np.rint((np.linalg.inv(image.affine) @ [*world, 1])[:3]).astype(int)
        value = np.clip(image.get_fdata()[tuple(there)], scan["low"], scan["high"])
        assert shown[tuple(voxel)] == pytest.approx(value, abs=1.01 * half)
    numbers = [number for number, _ in found["slices"]]
    assert numbers == one.slices["slice"].tolist()


def test_slices_of_a_registered_scan_are_found_in_the_scan_itself(
    tiny_run: Run, tiny_scan: Path
) -> None:
    plain = read_bundle(tiny_run.bundle).recipe.steps
    steps = (*plain[:2], Register(voxel_mm=4.0, thickest_mm=4.0), *plain[2:])
    scan = ScanFiles(subject="s", image=tiny_scan)
    prepared = prepare_scan(scan, fit_recipe(steps, [scan]))
    assert prepared.grid.moved is not None
    places = slice_places(prepared)
    assert len(places) > 0.8 * len(prepared.index)
    numbers = sorted(places)
    heights = np.array([places[number] for number in numbers])
    assert (np.diff(heights) >= 0).all()
    slope = np.ptp(heights) / np.ptp(numbers)  # both grids have 4 mm
    assert slope == pytest.approx(1, abs=0.15)
    assert slice_places(prepare_scan(scan, fit_recipe(plain, [scan]))) == {
        number: number for number in prepare_scan(scan, fit_recipe(plain, [scan])).index["slice"]
    }


def test_an_index_that_somebody_else_wrote_stays(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path
) -> None:
    detect_scans(tiny_run.bundle, [tiny_scan], tmp_path / "out", threads=1)
    (tmp_path / "out/index.html").write_text("mine")
    with pytest.raises(OutputError, match=r"index\.html"):
        detect_scans(tiny_run.bundle, [tiny_scan], tmp_path / "out", threads=1)
    assert (tmp_path / "out/index.html").read_text() == "mine"


def test_scans_of_one_name_get_folders_of_their_own(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / tiny_scan.name
    other.parent.mkdir()
    shutil.copyfile(tiny_scan, other)
    found = detect_scans(tiny_run.bundle, [tiny_scan, other], tmp_path / "out", threads=1)
    stem = tiny_scan.name.split(".")[0]
    assert [one.name for one in found] == [f"{stem}_1", f"{stem}_2"]
    assert found[0].verdict == found[1].verdict


def test_a_folder_that_is_no_bundle_is_refused(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a bundle"):
        read_bundle(tiny_run.folder)
    shutil.copytree(tiny_run.bundle, tmp_path / "bundle")
    write_json(tmp_path / "bundle/bundle.json", {"format": 99})
    with pytest.raises(DataError, match="expected format 2, found 99"):
        read_bundle(tmp_path / "bundle")


def test_bundle_works_alone_and_holds_no_patient_data(tiny_run: Run, tmp_path: Path) -> None:
    names = sorted(p.name for p in tiny_run.bundle.rglob("[!.]*") if p.is_file())
    assert names == ["bundle.json", "calibration.json", "config.yaml", "domain.json",
                     "fitted.safetensors", "model.json", "model.json", "recipe.json",
                     "seen.json", "weights.safetensors", "weights.safetensors"]  # fmt: skip
    moved = shutil.copytree(tiny_run.bundle, tmp_path / "moved")
    assert read_bundle(moved).calibration == read_bundle(tiny_run.bundle).calibration
    (moved / "domain.json").unlink()
    with pytest.raises(DataError, match=r"domain\.json: no such file"):
        read_bundle(moved)


@pytest.fixture(scope="module")
def rich_run(tiny_run: Run, tmp_path_factory) -> Run:
    """The tiny run scored anew with fitted, gradient and context scores, and with maps."""
    folder = tmp_path_factory.mktemp("rich") / "run"
    shutil.copytree(tiny_run.folder, folder)
    scores = ["residual_local", "latent_mahalanobis*", "latent_l2_centred", "gradient_kl",
              IN_CONTEXT]  # fmt: skip
    maps = ["image_l1", "latent_gradient", "residual_mirror_zscore"]
    changed = tiny_config(scoring__scores=scores, scoring__maps=maps, decision__score=IN_CONTEXT)
    run = Run.create(changed, folder)
    for stage in ("score", "calibrate", "evaluate"):
        run_stage(run, stage)
    return run


def test_detection_replays_what_scores_learned(rich_run: Run, tmp_path: Path) -> None:
    scores = read_scores(rich_run.scores)
    subject = scores[(scores["role"] == "mixed") & (scores["split"] == "test")]["subject"].iloc[0]
    mine = scores[(scores["subject"] == subject) & (scores["role"] == "mixed")]
    scan, mask = _scan(rich_run, subject), _brain_mask(rich_run, subject)
    (one,) = detect_scans(rich_run.bundle, [scan], tmp_path, brain_masks=[mask], threads=1)
    for name in ("latent_mahalanobis", "latent_mahalanobis_diagonal", "latent_l2_centred",
                 "gradient_kl", "trivial_zscore", "trivial_zscore_mean", IN_CONTEXT,
                 "trivial_asymmetry_context"):  # fmt: skip
        np.testing.assert_allclose(one.slices[name], mine[name], rtol=1e-4, err_msg=name)
    entry = read_json(rich_run.calibration)["scores"][IN_CONTEXT]
    d_star = entry["slice"]["thresholds"][0]["threshold"]
    assert one.slices["abnormal"].tolist() == (one.slices[IN_CONTEXT] >= d_star).tolist()
    (rich_run.bundle / "fitted.safetensors").rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"fitted\.safetensors: no such file"):
        detect_scans(rich_run.bundle, [scan], tmp_path / "no", brain_masks=[mask], threads=1)
    (tmp_path / "away").rename(rich_run.bundle / "fitted.safetensors")


def test_maps_are_judged_pixel_by_pixel(rich_run: Run) -> None:
    metrics = read_metrics(rich_run.folder / "metrics.tsv")
    pixel = metrics[metrics["level"] == "pixel"]
    assert set(pixel["score"]) == {"image_l1", "latent_gradient", "residual_mirror_zscore"}
    assert set(pixel["metric"]) == {"auroc", "average_precision", "dice_best", "prevalence"}
    store = SliceStore.open(rich_run.slices)
    rows = map_rows(store)
    maps = np.load(rich_run.maps / "image_l1.npy")
    inside = store.brain[rows].astype(bool)
    truth = store.tumour[rows][inside]
    found = pixel[(pixel["score"] == "image_l1") & (pixel["metric"] == "auroc")].iloc[0]
    assert found["value"] == pytest.approx(roc_auc_score(truth, maps[inside]), abs=1e-3)
    assert found["n_pos"] == truth.sum()


def test_any_map_is_written_on_the_scans_own_grid(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path
) -> None:
    wanted = ["latent_gradient", "latent_occlusion", "features_l2_?", "residual"]
    (one,) = detect_scans(tiny_run.bundle, [tiny_scan], tmp_path, maps=wanted, threads=1)
    scan = nibabel.load(tiny_scan)
    for name in ("latent_gradient", "latent_occlusion", "features_l2_1", "residual_positive"):
        image = nibabel.load(one.folder / f"{name}.nii.gz")
        assert image.shape == scan.shape
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
        values = image.get_fdata()
        assert np.isfinite(values).all()
        assert (values != 0).any()
        assert not values[scan.get_fdata() == 0].any()
    positive = nibabel.load(one.folder / "residual_positive.nii.gz").get_fdata()
    signed = nibabel.load(one.folder / "residual.nii.gz").get_fdata()
    assert (positive >= signed - 1e-3).all()
    with pytest.raises(ConfigError, match=r"maps: expected names among .*found nonsense"):
        detect_scans(tiny_run.bundle, [tiny_scan], tmp_path / "no", maps=["nonsense"])


@pytest.fixture(scope="module")
def aligned_run(tmp_path_factory) -> Run:
    """A tiny run whose recipe aligns mirror images."""
    recipe = [*TINY["recipe"], {"step": "align_mirror"}]
    few = {"healthy": 10, "mixed": 8, "spacing_mm": 4.0, "seed": 3}
    changed = tiny_config(
        recipe=recipe, cohort__phantom=few, training__healthy__epochs=1, training__mixed__epochs=1,
        scoring__scores=["residual_or_mirror_local"], decision__score="residual_or_mirror_local",
    )  # fmt: skip
    run = Run.create(changed, tmp_path_factory.mktemp("aligned") / "run")
    run_stages(run, until="calibrate")
    return run


def test_detection_looks_at_the_runs_own_mirror_images(aligned_run: Run, tmp_path: Path) -> None:
    scores = read_scores(aligned_run.scores)
    flat = scores["trivial_asymmetry"].to_numpy()
    assert not np.allclose(scores["trivial_asymmetry_3d"], flat, rtol=0.05)
    subject = scores[(scores["role"] == "mixed") & (scores["split"] == "test")]["subject"].iloc[0]
    mine = scores[(scores["subject"] == subject) & (scores["role"] == "mixed")]
    scan, mask = _scan(aligned_run, subject), _brain_mask(aligned_run, subject)
    (one,) = detect_scans(aligned_run.bundle, [scan], tmp_path, brain_masks=[mask], threads=1)
    names = [c for c in scores.columns if "asymmetry_3d" in c or "mirror" in c]
    assert len(names) == 5
    for name in names:
        np.testing.assert_allclose(one.slices[name], mine[name], rtol=1e-5, atol=1e-7)


def test_planted_lesions_keep_the_mirror_images_of_their_slices(aligned_run: Run) -> None:
    store = SliceStore.open(aligned_run.slices)
    planted = plant(store, Planting(), seed=0)
    healthy, val = store.select("healthy"), store.select("healthy", "val")
    assert len(val)
    np.testing.assert_array_equal(planted.mirror[: len(healthy)], store.mirror[healthy])
    np.testing.assert_array_equal(planted.mirror[len(healthy) :], store.mirror[val])


def test_damaged_mirror_images_are_never_used_unnoticed(aligned_run: Run) -> None:
    path = aligned_run.slices / "mirror.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StageError, match=r"mirror\.npy: expected the file as the stage prepare"):
        run_stage(aligned_run, "score")
    path.write_bytes(content)
