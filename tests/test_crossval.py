"""Cross-validation over mixed subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tiny import TINY, tiny_config
from twinvae.cohort import add_tumour_free, read_manifest, write_manifest
from twinvae.config import load_config
from twinvae.errors import ConfigError, PartialFailureError
from twinvae.files import read_json
from twinvae.runs.crossval import cross_validate, fold_tables
from twinvae.runs.folder import Run
from twinvae.scoring import read_scores


def test_each_masked_subject_is_tested_once_and_never_trains_its_own_model(tiny_run: Run) -> None:
    table = read_manifest(tiny_run.manifest)
    mixed = table["role"] == "mixed"
    unmasked = table.index[mixed][:2]
    table.loc[unmasked, "tumour_mask"] = ""
    folds = fold_tables(table, 5, seed=0)
    tested: list[str] = []
    for fold in folds:
        assert fold.loc[~mixed, "split"].equals(table.loc[~mixed, "split"])
        assert set(fold.loc[mixed, "split"]) == {"train", "test"}
        assert (fold.loc[unmasked, "split"] == "train").all()
        tested += fold.loc[mixed & (fold["split"] == "test"), "subject"].tolist()
    assert sorted(tested) == sorted(table.loc[mixed, "subject"].drop(unmasked))
    with pytest.raises(ConfigError, match=r"expected 2 to 10 .*found 11"):
        fold_tables(table, 11, seed=0)


def test_tumour_free_stand_ins_follow_their_patient_into_the_test_fold(tiny_run: Run) -> None:
    table = read_manifest(tiny_run.manifest)
    table = add_tumour_free(table[table["role"] == "mixed"])
    stand_in = table["role"] == "healthy"
    assert set(table.loc[stand_in, "source"]) == {"mixed-tumour-free"}
    for fold in fold_tables(table, 3, seed=0):
        mixed, healthy = fold[~stand_in].set_index("image"), fold[stand_in].set_index("image")
        assert (healthy["split"] == mixed["split"]).all()
        assert {"train", "val", "test"} == set(healthy["split"])


@pytest.fixture(scope="module")
def crossed(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    plain = {key: value for key, value in TINY.items() if not key.startswith("cohort")}
    manifest = {"cohort.phantom": None, "cohort.manifest": str(tiny_run.manifest)}
    config = load_config("demo", plain | manifest)
    return cross_validate(config, tmp_path_factory.mktemp("cross") / "run", folds=2)


def test_pooled_scores_hold_every_mixed_subject_once_with_the_threshold_at_zero(
    crossed: Run, tiny_run: Run
) -> None:
    scores = read_scores(crossed.scores)
    mixed = scores[scores["role"] == "mixed"]
    table = read_manifest(tiny_run.manifest)
    assert set(mixed["subject"]) == set(table.loc[table["role"] == "mixed", "subject"])
    assert not mixed.duplicated(["source", "subject", "slice"]).any()
    assert not scores[scores["role"] == "healthy"].duplicated(["source", "subject", "slice"]).any()
    calibration = read_json(crossed.calibration)
    assert calibration["size"] == "brain_mm2"
    for name, entry in calibration["scores"].items():
        if name == "trivial_brain_area":  # in mm², as in every fold
            assert 1_000 < scores[name].median() < 30_000
            continue
        assert entry["slice"]["thresholds"][0]["threshold"] == pytest.approx(0, abs=1e-9)
    for name in ("metrics.tsv", "audit.json", "report.html"):
        assert (crossed.folder / name).is_file()


def test_pooling_keeps_each_folds_verdicts_and_order(crossed: Run) -> None:
    pooled = read_scores(crossed.scores).set_index(["source", "subject", "slice"])
    for number in range(2):
        folder = crossed.folder / f"fold-{number}"
        own = read_scores(folder / "scores.tsv")
        own = own[own["role"] == "mixed"].set_index(["source", "subject", "slice"])
        threshold = read_json(folder / "calibration.json")["scores"]["latent_l2"]["slice"]
        mine = pooled.loc[own.index, "latent_l2"]
        above = own["latent_l2"] >= threshold["thresholds"][0]["threshold"]
        assert (above == (mine >= 0)).all()
        order = np.argsort(own["latent_l2"].to_numpy())
        assert (np.diff(mine.to_numpy()[order]) >= 0).all()


def test_healthy_model_is_trained_once(crossed: Run) -> None:
    first, second = (
        (crossed.folder / f"fold-{n}/models/healthy/weights.safetensors") for n in range(2)
    )
    assert first.read_bytes() == second.read_bytes()
    assert second.stat().st_mtime_ns == first.stat().st_mtime_ns, "copied, never written again"
    mixed = [
        (crossed.folder / f"fold-{n}/models/mixed/weights.safetensors").read_bytes()
        for n in range(2)
    ]
    assert mixed[0] != mixed[1]


def test_manifest_of_a_fold_is_complete(crossed: Run) -> None:
    table = pd.read_csv(Path(crossed.folder) / "fold-1/cohort.tsv", sep="\t")
    assert len(table) == 32
    assert table["split"].notna().all()


def test_stand_ins_are_cross_validated_with_their_patients(tiny_run: Run, tmp_path: Path) -> None:
    plain = {key: value for key, value in TINY.items() if not key.startswith("cohort")}
    table = read_manifest(tiny_run.manifest)
    write_manifest(table[table["role"] == "mixed"].assign(split=""), tmp_path / "patients.tsv")
    cohort = {
        "cohort.phantom": None,
        "cohort.manifest": str(tmp_path / "patients.tsv"),
        "cohort.tumour_free_as_healthy": True,
        "cohort.split": {"train": 0.5, "val": 0.3, "test": 0.2, "seed": 0},
    }
    config = load_config("demo", plain | cohort | {"decision.scan_percentile": 30.0})
    whole = cross_validate(config, tmp_path / "run", folds=2)
    scores = read_scores(whole.scores)
    mixed = scores[scores["role"] == "mixed"]
    assert set(mixed["split"]) == {"test"}
    assert mixed["subject"].nunique() == 12
    stand_ins = scores[scores["role"] == "healthy"]
    assert (stand_ins["tumour_px"] == 0).all()
    assert {"val", "test"} == set(stand_ins["split"])


def test_a_fold_that_fails_is_named_and_the_others_are_done(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinvae.runs import crossval

    stage = crossval.run_stage

    def odd(run: Run, name: str, **more: object) -> bool:
        if (run.folder.name, name) == ("fold-0", "score"):
            raise MemoryError("too many slices")
        return stage(run, name, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(crossval, "run_stage", odd)
    config = tiny_config(cohort__phantom=None, cohort__manifest=str(tiny_run.manifest))
    with pytest.raises(PartialFailureError, match=r"1 of 2 folds failed[\s\S]*fold 1: .*MemoryErr"):
        cross_validate(config, tmp_path / "out", 2)
    assert (tmp_path / "out/fold-1/calibration.json").is_file()
    assert not (tmp_path / "out/report.html").exists()
    monkeypatch.undo()
    cross_validate(config, tmp_path / "out", 2)
    assert (tmp_path / "out/report.html").is_file()
