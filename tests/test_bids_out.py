"""BIDS derivatives: what ``detect`` writes of a BIDS data set, and what the validator says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from twinvae.detection.detect import Detection, detect_scans
from twinvae.detection.detect_patients import detect_patients
from twinvae.detection.options import DetectOptions
from twinvae.detection.place import Place, bids_path
from twinvae.detection.plan import plan_detection
from twinvae.errors import ConfigError, OutputError
from twinvae.files import read_json, write_json
from twinvae.outputs import MARKER, own_files, spread
from twinvae.runs.folder import Run

VALIDATOR = shutil.which("bids-validator-deno", path=f"{Path(sys.executable).parent}") or (
    shutil.which("bids-validator-deno")
)
STEM = "sub-{0}/ses-1/anat/sub-{0}_ses-1_run-2"


def put(scan: Path, root: Path, *names: str) -> Path:
    """A raw BIDS data set of copies of one scan."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scan, root / name)
    about = {"Name": "Made up", "BIDSVersion": "1.10.0", "DatasetType": "raw", "License": "CC0"}
    write_json(root / "dataset_description.json", about)
    (root / "README").write_text("Scans that were generated, to test what reads them. " * 5)
    return root


@pytest.fixture
def dataset(tiny_scan: Path, tmp_path: Path) -> Path:
    names = (f"{STEM.format('01')}_T2w.nii.gz", "sub-02/anat/sub-02_acq-fast_T2w.nii.gz")
    return put(tiny_scan, tmp_path / "study", *names)


@pytest.fixture(scope="session")
def judged(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with derivatives; tests must not change it."""
    scan = next((tiny_run.folder / "cohort/mixed").glob("sub-*/anat/*_T2w.nii.gz"))
    root = tmp_path_factory.mktemp("bids") / "study"
    put(scan, root, f"{STEM.format('01')}_T2w.nii.gz", "sub-02/anat/sub-02_acq-fast_T2w.nii.gz")
    detect(tiny_run, root, maps=["image_l1"])
    return root


def detect(run: Run, root: Path, **options: Any) -> list[Detection]:
    return detect_scans(run.bundle, root, root / "derivatives/twinvae", threads=1, **options)


def errors_in(root: Path) -> list[str]:
    """What the official validator calls an error in a data set."""
    if VALIDATOR is None:
        pytest.skip('no bids-validator-deno: pip install "twinvae[dev]"')
    done = subprocess.run(
        [VALIDATOR, "--format", "json", str(root)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = json.loads(done.stdout)["issues"]["issues"]
    return [
        f"{one['code']} {one.get('subCode', '')} {one['location']} {one.get('issueMessage')}"
        for one in found
        if one["severity"] == "error"
    ]


def test_the_official_validator_finds_no_error(judged: Path) -> None:
    assert errors_in(judged) == []
    assert errors_in(judged / "derivatives/twinvae") == []


def test_the_validator_would_tell(judged: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(judged / "derivatives/twinvae", tmp_path / "twinvae"))
    (out / ".bidsignore").unlink()
    shutil.copyfile(next(out.glob("sub-02/anat/*healthy*.nii.gz")), out / "sub-02/anat/x.nii.gz")
    found = "\n".join(errors_in(out))
    assert "/sub-02/anat/x.nii.gz" in found
    assert "/index.html" in found


def test_names_keep_every_entity_and_images_say_where_they_come_from(judged: Path) -> None:
    out, scan = judged / "derivatives/twinvae", f"{STEM.format('01')}_T2w.nii.gz"
    stem = out / STEM.format("01")
    maps = [
        f"desc-{map_name}_T2w" for map_name in ("healthy", "residual", "abnormality", "imageL1")
    ]
    for name in (*maps, "space-T2w_desc-lesions_dseg"):
        about = read_json(stem.with_name(f"{stem.name}_{name}.json"))
        assert about["Sources"] == [about["SpatialReference"]] == [f"bids:raw:{scan}"], name
        assert about["Description"], name
        image = nibabel.load(stem.with_name(f"{stem.name}_{name}.nii.gz"))
        np.testing.assert_array_equal(image.affine, nibabel.load(judged / scan).affine)
    assert (out / "sub-01_ses-1_run-2_T2w.html").is_file()
    assert (out / "sub-02/figures/sub-02_acq-fast_desc-thumbnail_T2w.png").is_file()
    about = read_json(out / "dataset_description.json")
    assert (about["DatasetType"], about["DatasetLinks"]) == ("derivative", {"raw": "../.."})
    assert about["GeneratedBy"][0]["Name"] == "twinvae"
    assert (out / about["DatasetLinks"]["raw"] / scan).is_file()
    assert not [path for path in out.rglob("*") if path.name.startswith(".twinvae-new-")]


def test_every_column_of_every_table_is_described(judged: Path) -> None:
    out = judged / "derivatives/twinvae"
    tables = [path for path in sorted(out.rglob("*.tsv")) if not path.name.endswith("_scans.tsv")]
    assert len(tables) == 6
    for path in tables:
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        assert set(table.columns) <= set(read_json(path.with_suffix(".json"))), path
        assert "" not in set(table.astype(str).to_numpy().ravel()), path
    scans = pd.read_csv(next(out.glob("sub-02/*_scans.tsv")), sep="\t")
    assert set(scans.columns) - {"filename"} == set(read_json(out / "scans.json"))
    assert (out / "sub-02" / scans["filename"][0]).is_file()
    said = read_json(next(out.glob("sub-02/anat/*_desc-verdict_T2w.json")))
    assert scans[["verdict", "value"]].to_numpy().tolist() == [[said["verdict"], said["value"]]]


def test_lesions_are_the_values_of_the_segmentation(judged: Path) -> None:
    (path,) = judged.rglob("sub-02*_dseg.nii.gz")
    table = pd.read_csv(path.with_name(path.name.replace(".nii.gz", ".tsv")), sep="\t")
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj)
    assert image.get_data_dtype() == np.int16
    assert sorted(set(np.unique(labels)) - {0}) == table["index"].tolist()
    assert len(table)
    voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    volumes = [np.count_nonzero(labels == one) * voxel_ml for one in table["index"]]
    np.testing.assert_allclose(volumes, table["volume_ml"], atol=1e-3)
    (stem,) = judged.rglob("sub-02*_desc-abnormality_T2w.nii.gz")
    assert np.asarray(nibabel.load(stem).dataobj)[labels > 0].min() >= 1


def test_results_are_kept_and_made_again_as_in_plain_folders(
    tiny_run: Run, judged: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(judged, tmp_path / "study"))
    out = root / "derivatives/twinvae"
    first = detect(tiny_run, root)  # moved with its derivatives, and without the further map
    pages = {path: path.stat().st_mtime_ns for path in out.glob("sub-*.html")}
    assert not list(out.rglob("*imageL1*"))
    kept = detect(tiny_run, root)
    assert {path: path.stat().st_mtime_ns for path in out.glob("sub-*.html")} == pages
    for one, before in zip(kept, first, strict=True):
        assert one.summary() == before.summary()
        assert one.folder == before.folder
    next(out.glob("sub-02/anat/*_desc-healthy_T2w.nii.gz")).unlink()
    detect(tiny_run, root)
    changed = [p.name for p, made in pages.items() if p.stat().st_mtime_ns != made]
    assert changed == ["sub-02_acq-fast_T2w.html"]


def test_a_brain_mask_that_twinvae_found_is_no_mask_of_the_data_set(
    tiny_run: Run, dataset: Path
) -> None:
    out = dataset / "derivatives/twinvae"
    mask = out / "sub-02/anat/sub-02_acq-fast_space-T2w_desc-brain_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    shutil.copyfile(next(dataset.glob("sub-02/anat/*.nii.gz")), mask)

    def masks() -> list[Path | None]:
        plan = plan_detection(tiny_run.bundle, dataset, out, DetectOptions(), together=False)
        return [task.scans["T2w"].brain_mask for task in plan.tasks]

    assert masks() == [None, mask]
    write_json(out / MARKER, {"made_by": "twinvae", "kind": "BIDS derivatives"})
    assert masks() == [None, None]


def test_what_others_put_there_stays(tiny_run: Run, dataset: Path) -> None:
    out = dataset / "derivatives/twinvae"
    plan = plan_detection(tiny_run.bundle, dataset, out, DetectOptions(), together=False)
    plan.check()
    write_json(out / MARKER, {"made_by": "twinvae", "kind": "BIDS derivatives"})
    for name in ("participants.tsv", "sub-02/anat/sub-02_acq-fast_desc-healthy_T2w.nii.gz"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
        with pytest.raises(OutputError, match=f"{Path(name).name}: expected no such file"):
            detect(tiny_run, dataset)
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    write_json(out / MARKER, {"made_by": "twinvae", "kind": "detections"})
    with pytest.raises(OutputError, match="or a BIDS derivatives, found a detections"):
        plan.check()


def test_the_layout_follows_from_what_is_given(tiny_run: Run, dataset: Path) -> None:
    def layout(*given: Path, **options: Any) -> Path | None:
        chosen = DetectOptions(**options)
        return plan_detection(tiny_run.bundle, given, "out", chosen, together=False).dataset

    scan = next(dataset.glob("sub-02/anat/*.nii.gz"))
    assert layout(dataset) == dataset
    assert layout(dataset, layout="folders") is None
    assert layout(scan) is None
    assert layout(dataset, scan) is None
    with pytest.raises(ConfigError, match="output-layout: expected scans of one BIDS data set"):
        layout(scan, layout="bids")
    with pytest.raises(ConfigError, match="output-layout: expected one of"):
        DetectOptions(layout="tree")  # type: ignore[arg-type]
    (dataset / "dataset_description.json").unlink()
    assert layout(dataset) is None
    assert layout(dataset, layout="bids") == dataset


def test_files_that_vouch_for_others_go_first_and_come_last(tmp_path: Path) -> None:
    home = tmp_path / ".twinvae/one"
    places = {"a": tmp_path / "x/a", "b": tmp_path / "x/b", "key": home / "key"}

    def write(*names: str) -> None:
        with spread(home, "results of a scan", places.__getitem__, of="me") as room:
            for name in names:
                (room / name).write_text(name)

    write("a", "b", "key")
    write("a", "key")
    assert not (tmp_path / "x/b").exists()
    assert set(own_files(home)) == {home / "key", tmp_path / "x/a"}
    places["a"] = tmp_path / "x/a/deeper"  # cannot be made: x/a is a file
    with pytest.raises(OSError, match="x/a"):
        write("a", "key")
    assert not (home / "key").exists()
    assert (tmp_path / "x/a").read_text() == "a"


def test_contrasts_judged_together_are_told_apart(
    composite: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    root = tmp_path / "study"
    for contrast, run in runs.items():
        scan = next((run / "cohort/mixed").glob(f"sub-*/anat/*_{contrast}.nii.gz"))
        put(scan, root, f"sub-01/ses-1/anat/sub-01_ses-1_{contrast}.nii.gz")
    run_2 = f"sub-01/ses-1/anat/sub-01_ses-1_run-2_{contrast}.nii.gz"
    put(scan, root, run_2)
    out = root / "derivatives/twinvae"
    (one,) = detect_patients(composite, root, out, threads=1, force=True)
    (again,) = detect_patients(composite, root, out, threads=1, force=True)
    assert one.summary() == again.summary()
    assert one.name == "sub-01_ses-1"
    assert f"{root / run_2} was left out, since only one scan" in one.warnings[0]
    assert read_json(one.folder / "sub-01_ses-1_desc-verdict_fused.json")["warnings"] == list(
        one.warnings
    )
    page = (out / "sub-01_ses-1.html").read_text()
    for contrast in runs:
        assert f'href="sub-01_ses-1_{contrast}.html"' in page
        assert (out / f"sub-01_ses-1_{contrast}.html").is_file()
        assert list(out.rglob(f"*_space-{contrast}_desc-lesions_dseg.tsv"))
    scans = pd.read_csv(next(out.rglob("*_scans.tsv")), sep="\t")
    assert len(scans) == len(runs)
    assert errors_in(out) == []


def test_roles_have_places_in_both_layouts(tmp_path: Path) -> None:
    assert Place(tmp_path, "a").path("T2w/slices.tsv") == tmp_path / "a/T2w/slices.tsv"
    assert bids_path("sub-1_ses-2", "report.html") == Path("sub-1_ses-2.html")
    found = bids_path("sub-1_ce-gd_run-1_T1w", "residual_positive.nii.gz")
    assert found == Path("sub-1/anat/sub-1_ce-gd_run-1_desc-residualPositive_T1w.nii.gz")
