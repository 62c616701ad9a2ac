"""The stages end to end on a tiny generated cohort."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from tiny import tiny_config
from twinvae.cohort import read_manifest, write_manifest
from twinvae.config import SourceConfig, SplitConfig, load_config
from twinvae.errors import (
    CalibrationError,
    ConfigError,
    PartialFailureError,
    StageError,
    TwinvaeError,
)
from twinvae.evaluation import read_metrics
from twinvae.files import read_json
from twinvae.imaging import SliceStore
from twinvae.runs.folder import STAGES, Run
from twinvae.runs.stages import run_stage, run_stages, write_index
from twinvae.scoring import read_scores


def copy_of(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder)
    return Run(folder, run.config)


def test_run_writes_everything_it_promises(tiny_run: Run) -> None:
    for name in ("config.yaml", "run.json", "manifest.tsv", "scores.tsv", "calibration.json",
                 "metrics.tsv", "audit.json", "report.html", "bundle/bundle.json",
                 "figures/figure1.png", "figures/figure2.svg", "figures/figure3.png",
                 "figures/figure4.svg", "figures/table1.tsv"):  # fmt: skip
        assert (tiny_run.folder / name).stat().st_size > 0, name
    facts = read_json(tiny_run.folder / "run.json")
    assert facts["seed"] == 0
    assert facts["versions"]["torch"]
    page = (tiny_run.folder / "report.html").read_text()
    assert "Not for clinical use" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_scores_cover_validation_and_test_slices_and_no_training_slice(tiny_run: Run) -> None:
    scores = read_scores(tiny_run.scores)
    index = SliceStore.open(tiny_run.slices).index
    assert len(scores) == (index["split"] != "train").sum()
    assert set(scores["split"]) == {"val", "test"}
    assert {"latent_l2", "image_l2", "healthy_mean_norm", "residual_local"} < set(scores.columns)
    assert sum(c.startswith("trivial_") for c in scores.columns) >= 6
    scored = index[index["split"] != "train"].reset_index(drop=True)
    assert scores["spacing_mm"].tolist() == scored["spacing_mm"].tolist()
    areas = scored["brain_px"] * scored["spacing_mm"] ** 2
    np.testing.assert_allclose(scores["trivial_brain_area"], areas, rtol=1e-5)
    assert read_json(tiny_run.calibration)["size"] == "brain_mm2"
    assert read_json(tiny_run.folder / "audit.json")["support"]["pixel_mm2"] is not None


def test_metrics_can_be_recomputed_from_the_scores(tiny_run: Run) -> None:
    scores, metrics = read_scores(tiny_run.scores), read_metrics(tiny_run.folder / "metrics.tsv")
    calibration = read_json(tiny_run.calibration)
    table = scores[(scores["role"] == "mixed") & (scores["split"] == "test")]
    rows = metrics[(metrics["level"] == "slice") & (metrics["subset"] == "mixed")]
    compared = 0
    for (k, name), group in rows.groupby(["min_tumour_px", "score"]):
        positive, values = (table["tumour_px"] > k).to_numpy(), table[name].to_numpy()
        threshold = calibration["scores"][name]["slice"]["thresholds"][0]["threshold"]
        found = group.set_index("metric")["value"]
        expected = {
            "auroc": roc_auc_score(positive, values),
            "average_precision": average_precision_score(positive, values),
            "accuracy": accuracy_score(positive, values >= threshold),
            "f1": f1_score(positive, values >= threshold, zero_division=0),
        }
        for metric, value in expected.items():
            assert found[metric] == pytest.approx(value, abs=1e-9), (k, name, metric)
            compared += 1
    assert compared == 4 * 2 * len([c for c in scores.columns if c in set(rows["score"])])


def test_threshold_is_the_percentile_of_healthy_validation_slices(tiny_run: Run) -> None:
    scores, calibration = read_scores(tiny_run.scores), read_json(tiny_run.calibration)
    healthy = scores[(scores["role"] == "healthy") & (scores["split"] == "val")]
    for name, entry in calibration["scores"].items():
        first = entry["slice"]["thresholds"][0]
        assert first["percentile"] == 95
        assert first["threshold"] == pytest.approx(np.percentile(healthy[name], 95), rel=1e-12)


def test_unchanged_stages_are_skipped_and_changed_ones_redone(tiny_run: Run, tmp_path) -> None:
    run = copy_of(tiny_run, tmp_path / "copy")
    assert [run_stage(run, stage) for stage in STAGES[:1] + STAGES[2:]] == [False] * 6
    changed = Run.create(tiny_config(decision__score="latent_l2"), run.folder)
    redone = [stage for stage in STAGES if stage != "prepare" and run_stage(changed, stage)]
    assert redone == ["calibrate", "evaluate", "report"]
    assert read_json(changed.calibration)["decision_score"] == "latent_l2"
    assert run_stage(changed, "evaluate", force=True)


def test_same_run_twice_gives_the_same_scores(tiny_run: Run, tmp_path) -> None:
    again = Run.create(tiny_config(), tmp_path / "again")
    run_stages(again, until="score")
    assert again.scores.read_bytes() == tiny_run.scores.read_bytes()
    other = Run.create(tiny_config(seed=1), tmp_path / "again")
    run_stages(other, until="score")
    assert other.scores.read_bytes() != tiny_run.scores.read_bytes()


def test_stage_before_its_inputs_says_which_to_run(tmp_path) -> None:
    run = Run.create(tiny_config(), tmp_path)
    with pytest.raises(StageError, match="stage score reads what train writes"):
        run_stage(run, "score")
    with pytest.raises(StageError, match=r"expected a run's folder \(with config.yaml\)"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="until: expected one of index"):
        run_stages(run, until="nonsense")


def test_too_few_healthy_slices_are_refused_before_anything_is_written(
    tiny_run: Run, tmp_path
) -> None:
    run = copy_of(tiny_run, tmp_path / "copy")
    before = run.calibration.read_bytes()
    greedy = Run.create(tiny_config(decision__percentiles=[99.99]), run.folder)
    with pytest.raises(CalibrationError, match=r"99\.99.*needs at least 10000"):
        run_stage(greedy, "calibrate")
    assert run.calibration.read_bytes() == before
    with pytest.raises(StageError, match="stage evaluate reads what calibrate writes"):
        run_stage(greedy, "evaluate")


def test_broken_scan_is_reported_and_the_rest_goes_on(tiny_run: Run, tmp_path) -> None:
    cohort = tmp_path / "cohort"
    shutil.copytree(tiny_run.folder / "cohort", cohort)
    broken = sorted((cohort / "mixed").glob("sub-*/anat/*_T2w.nii.gz"))[0]
    broken.write_bytes(broken.read_bytes()[:1000])
    sources = [{"path": cohort / role, "role": role} for role in ("healthy", "mixed")]
    config = load_config(
        "demo", {**{k: v for k, v in _tiny_without_phantom().items()}, "cohort.sources": sources,
                 "cohort.phantom": None}
    )  # fmt: skip
    run = Run.create(config, tmp_path / "run")
    with pytest.raises(PartialFailureError, match=r"1 scans were skipped[\s\S]*" + broken.name):
        run_stages(run, until="prepare")
    index = SliceStore.open(run.slices).index
    assert index["subject"].nunique() == 31
    # A file that changed is prepared again, without being told.
    shutil.copyfile(tiny_run.folder / broken.relative_to(tmp_path), broken)
    run_stages(run, until="prepare")
    assert SliceStore.open(run.slices).index["subject"].nunique() == 32


def _tiny_without_phantom() -> dict:
    from tiny import TINY

    return {key: value for key, value in TINY.items() if not key.startswith("cohort")}


def test_index_command_pools_sources(tiny_run: Run, tmp_path) -> None:
    cohort = tiny_run.folder / "cohort"
    out = tmp_path / "manifest.tsv"
    for role in ("healthy", "mixed"):
        source = SourceConfig(path=cohort / role, role=role)
        table = write_index([source], "T2w", SplitConfig(), out, append=True)
    assert len(table) == 32
    assert set(table["source"]) == {"healthy", "mixed"}
    frame = pd.read_csv(out, sep="\t")
    assert (frame.groupby(["source", "subject"])["split"].nunique() == 1).all()
    config = load_config(
        "demo", _tiny_without_phantom() | {"cohort.manifest": str(out), "cohort.phantom": None}
    )
    run = Run.create(config, tmp_path / "run")
    assert run_stage(run, "index")
    pd.testing.assert_frame_equal(
        pd.read_csv(run.manifest, sep="\t")[["subject", "split"]], frame[["subject", "split"]]
    )


def test_log_of_each_training_is_kept(tiny_run: Run) -> None:
    for role, epochs in (("healthy", 3), ("mixed", 2)):
        lines = (tiny_run.models / role / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epochs + 1))


def test_two_patients_can_be_listed_and_later_ones_fill_the_other_splits(
    tiny_run: Run, tmp_path, capfd
) -> None:
    """The very case seen: a small folder, to be pooled with others later."""
    scans = sorted((tiny_run.folder / "cohort/mixed").glob("sub-*/anat/*.nii.gz"))
    out = tmp_path / "manifest.tsv"
    for number, few in enumerate((scans[:2], scans[2:8])):
        rows = "".join(f"M{scan.name[5:8]},{scan}\n" for scan in few)
        table = tmp_path / f"{number}.csv"
        table.write_text("subject,image\n" + rows)
        source = SourceConfig(path=table, role="mixed", source="ours")
        write_index([source], "T2w", SplitConfig(), out, append=True)
        said = " ".join("".join(capfd.readouterr()).split())
        assert ("none of its 2 mixed subjects is in test" in said) == (number == 0)
    splits = pd.read_csv(out, sep="\t").groupby("split")["subject"].nunique()
    assert splits.to_dict() == {"train": 6, "val": 1, "test": 1}


@pytest.mark.parametrize(
    ("role", "split", "stage", "says"),
    [
        ("healthy", "train", "train", "train healthy: expected training slices, found none"),
        ("mixed", "train", "train", "train mixed: expected training slices, found none"),
        ("healthy", "val", "calibrate", "healthy validation slices, found 0"),
        ("mixed", "test", "evaluate", "expected slices of the role mixed and the split test"),
    ],
)
def test_a_stage_says_itself_which_subjects_it_lacks(
    role: str, split: str, stage: str, says: str, tiny_run: Run, tmp_path
) -> None:
    table = read_manifest(tiny_run.manifest)
    out = tmp_path / "manifest.tsv"
    write_manifest(table[(table["role"] != role) | (table["split"] != split)], out)
    changes = {"cohort__phantom": None, "cohort__manifest": str(out), "evaluation__resamples": 10}
    run = Run.create(tiny_config(**changes), tmp_path / "run")
    for name in STAGES[: STAGES.index(stage)]:
        run_stage(run, name)
    with pytest.raises(TwinvaeError, match=says):
        run_stage(run, stage)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_resumed_run_gives_the_very_page_of_an_uninterrupted_one(
    moment: str, tiny_run: Run, tmp_path, monkeypatch
) -> None:
    """Killed in training, just before and just after a checkpoint is written."""
    import sys

    training = sys.modules["twinvae.training.fit"]
    run = Run.create(tiny_config(), tmp_path / "run")
    save, saved = training.save_checkpoint, []

    def killed(*given: object) -> None:
        saved.append(1)
        if len(saved) == 2 and moment == "before":
            raise KeyboardInterrupt
        save(*given)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run_stages(run)
    run_stages(Run.open(run.folder))
    for path in [run.folder / "report.html", *(run.folder / "figures").glob("[!.]*")]:
        assert path.read_bytes() == (tiny_run.folder / path.relative_to(run.folder)).read_bytes()
