"""Studies: every cell done once, trainings shared, failures named, one table over seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from tiny import TINY
from twinvae.commands.app import app
from twinvae.config import load_config, load_study
from twinvae.errors import ConfigError, DataError, PartialFailureError
from twinvae.evaluation import over_seeds
from twinvae.parallel import cores
from twinvae.runs.folder import Run
from twinvae.runs.study import run_study
from twinvae.scoring import read_scores

CONFIGS = Path(__file__).parents[1] / "configs"
MODULE = """
import os
from pathlib import Path

import torch

from twinvae.models import VAE
from twinvae.scoring.registry import score

class OuterVAE(VAE):
    "A VAE from another package."
    source = "nowhere"

    def loss(self, *given, **more):
        Path(os.environ["THREADS"]).write_text(str(torch.get_num_threads()))
        return super().loss(*given, **more)

class OddVAE(OuterVAE):
    "One that fails as a GPU does."

    def loss(self, *given, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

class DeadlyVAE(OuterVAE):
    "One that takes its process with it."

    def loss(self, *given, **more):
        os._exit(9)

@score("outer_mean", "mean of x", "a package of someone else")
def outer_mean(batch):
    "Mean."
    return batch.x.flatten(1).mean(1)
"""


def study_file(folder: Path, manifest: Path, **changes: Any) -> Path:
    settings = {k: v for k, v in TINY.items() if not k.startswith(("cohort", "name"))}
    values = {
        "name": "tiny",
        "seeds": [0, 1],
        "data": {
            "once": {
                "config": "demo",
                "settings": {"cohort.phantom": None, "cohort.manifest": str(manifest)},
            }
        },
        "models": {"vae": {}, "untrained_mixed": {"training.mixed.data": "none"}},
        "settings": settings | {"scoring.scores": ["latent_l2", "residual_local"]},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


@pytest.fixture(scope="module")
def studied(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("study")
    path = study_file(folder, tiny_run.manifest)
    done = CliRunner().invoke(app, ["study", str(path), "-o", str(folder / "out"), "--jobs", "2"])
    assert done.exit_code == 0, done.output
    return path, folder / "out"


def test_each_training_is_done_once(studied: tuple[Path, Path]) -> None:
    _, out = studied
    # Two seeds of VAE-H, which both models share, and two of the trained VAE.
    assert len(list((out / "trained").glob("*/trained.json"))) == 4
    cells = out / "once"
    same = [
        (cells / m / "seed-1/models/healthy/weights.safetensors")
        for m in ("vae", "untrained_mixed")
    ]
    assert same[0].read_bytes() == same[1].read_bytes()
    other = cells / "vae/seed-0/models/healthy/weights.safetensors"
    assert same[0].read_bytes() != other.read_bytes()


def test_the_table_is_over_seeds_and_subjects(studied: tuple[Path, Path]) -> None:
    _, out = studied
    table = pd.read_csv(out / "study.tsv", sep="\t")
    assert (out / "study.png").stat().st_size > 10_000
    assert set(table["model"]) == {"vae", "untrained_mixed"}
    row = table.set_index(["model", "score", "metric"]).loc[("vae", "latent_l2", "auroc")]
    each = []
    for seed in (0, 1):
        scores = read_scores(out / f"once/vae/seed-{seed}/scores.tsv")
        test = scores[(scores["role"] == "mixed") & (scores["split"] == "test")]
        each.append(roc_auc_score(test["tumour_px"] > 5, test["latent_l2"]))
    assert row["value"] == pytest.approx(np.mean(each), abs=1e-5)
    assert row["seed_sd"] == pytest.approx(np.std(each, ddof=1), abs=1e-5)
    assert row["rival"].startswith("trivial_")
    assert row["difference"] == pytest.approx(row["value"] - row["rival_value"], abs=1e-5)
    local = table[table["score"] == "residual_local"].groupby("metric")["value"]
    assert (local.nunique() == 1).all()  # the healthy model alone decides it


def test_what_is_done_is_not_done_again(studied: tuple[Path, Path]) -> None:
    path, out = studied
    before = {p: p.stat().st_mtime_ns for p in out.rglob("weights.safetensors")}
    first = (out / "study.tsv").read_bytes()
    run_study(path, out, jobs=1)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("weights.safetensors")} == before
    assert (out / "study.tsv").read_bytes() == first


def test_another_packages_model_and_score_take_part_and_a_failing_cell_is_named(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "outer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[twinvae.models]\nouter_vae = outer:OuterVAE\nodd_vae = outer:OddVAE\n"
        "deadly_vae = outer:DeadlyVAE\n[twinvae.scores]\nouter_mean = outer\n"
    )
    (info.parent / "outer.py").write_text(MODULE)
    # Cells are run by processes of their own, which must find the package too.
    places = [str(info.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    monkeypatch.setenv("THREADS", str(tmp_path / "threads"))
    models = {
        name: {f"models.{role}.kind": f"{name}_vae" for role in ("healthy", "mixed")}
        for name in ("deadly", "odd", "outer")
    }
    diverges = {"training.mixed.learning_rate": 1e30, "training.mixed.clip_norm": 1e30}
    path = study_file(
        tmp_path,
        tiny_run.manifest,
        seeds=[0],
        models={**models, "diverging": diverges},
        settings={
            **{k: v for k, v in TINY.items() if not k.startswith(("cohort", "name"))},
            "scoring.scores": ["residual_local", "outer_mean"],
            "compute.threads": None,
        },
    )
    command = [sys.executable, "-m", "twinvae", "study", str(path), "-o", str(tmp_path / "out")]
    done = subprocess.run([*command, "--jobs", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    assert "3 of 4 cells failed" in done.stderr
    assert "once/diverging/seed-0: training diverged" in done.stderr
    assert "once/deadly/seed-0: the process that worked on it died" in done.stderr
    assert "once/odd/seed-0: OutOfMemoryError: CUDA out of memory" in done.stderr.replace("\n", "")
    assert int((tmp_path / "threads").read_text()) == max(1, cores() // 2)
    table = pd.read_csv(tmp_path / "out" / "study.tsv", sep="\t")
    assert set(table["model"]) == {"outer"}
    assert "outer_mean" in set(table["score"])


def test_cross_validated_data(tiny_run: Run, tmp_path: Path) -> None:
    data = {
        "folds": {
            "config": "demo",
            "folds": 2,
            "settings": {"cohort.phantom": None, "cohort.manifest": str(tiny_run.manifest)},
        }
    }
    path = study_file(tmp_path, tiny_run.manifest, data=data, seeds=[3])
    table = run_study(path, tmp_path / "out", jobs=1)
    assert (table["n_subjects"] == 12).all()
    # One VAE-H for both folds and models, and one VAE a fold.
    assert len(list((tmp_path / "out/trained").glob("*/trained.json"))) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1, 1]}, r"seeds: expected each seed once"),
        ({"models": {"vae": {"recipe": []}}}, r"vae: expected settings of models, training"),
        ({"models": {"vae": {"models.healthy.kind": 3}}}, r"models\.healthy\.kind"),
        ({"data": {"x": {"config": "nowhere.yaml"}}}, r"nowhere\.yaml: expected a YAML file"),
    ],
)
def test_bad_studies_are_refused(
    tiny_run: Run, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(study_file(tmp_path, tiny_run.manifest, **changes))
    with pytest.raises(ConfigError, match=r"none\.yaml: expected a study's YAML file"):
        load_study(tmp_path / "none.yaml")


def test_seeds_of_other_slices_are_refused(tiny_run: Run) -> None:
    scores = read_scores(tiny_run.scores)
    config = tiny_run.config.evaluation
    with pytest.raises(DataError, match=r"seed 2: expected the .* slices of the first"):
        over_seeds([scores, scores.drop(scores.index[scores["split"] == "test"][-1])], config)
    with pytest.raises(DataError, match=r"seed 2: expected the scores of the first"):
        over_seeds([scores, scores.drop(columns="image_l2")], config)


def test_the_interval_over_seeds_is_wider_than_over_subjects_alone(tiny_run: Run) -> None:
    scores = read_scores(tiny_run.scores)
    config = tiny_run.config.evaluation.model_copy(update={"resamples": 400})
    noise = np.random.default_rng(0).normal(size=len(scores)) * scores["latent_l2"].std() * 3
    other = scores.assign(latent_l2=scores["latent_l2"] + noise)
    width = {}
    for name, tables in (("same", [scores, scores]), ("differing", [scores, other])):
        found = over_seeds(tables, config).set_index(["score", "metric"])
        row = found.loc[("latent_l2", "auroc")]
        width[name] = row["ci_high"] - row["ci_low"]
    assert width["differing"] > 1.1 * width["same"]


@pytest.mark.parametrize("data", ["t2-brats", "flair-lgg", "t1-brats"])
def test_the_study_of_preset_best_is_of_preset_best(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINVAE_DATA", "/scans")
    path = CONFIGS / "study-best.yaml"
    mine, best = load_study(path).run_config(data, "best", 0, path.parent), load_config("best")
    assert mine.models.mixed == best.models.mixed
    assert mine.recipe[2:] == best.recipe[2:]  # LGG's brain masks come from elsewhere
    assert {**mine.models.healthy.options, "contrast": "T2w"} == best.models.healthy.options
    for part, names in {
        "models.healthy": ("kind", "image_size", "encoder_channels", "decoder_channels"),
        "training.healthy": ("batch_size", "learning_rate", "schedule", "augment"),
        "scoring": ("rim_mm", "local_fwhm_mm", "context", "baseline"),
        "decision": ("score",),
    }.items():
        for get in (attrgetter(f"{part}.{name}") for name in names):
            assert get(mine) == get(best)


def test_one_odd_set_of_scans_does_not_cost_the_others(tiny_run: Run, tmp_path: Path) -> None:
    good = {"config": "demo", "settings": {"cohort.phantom": None}}
    data = {
        name: {**good, "settings": {**good["settings"], "cohort.manifest": str(manifest)}}
        for name, manifest in (("gone", tmp_path / "no.tsv"), ("here", tiny_run.manifest))
    }
    models = {"untrained": {f"training.{role}.data": "none" for role in ("healthy", "mixed")}}
    path = study_file(tmp_path, tiny_run.manifest, seeds=[0], data=data, models=models)
    with pytest.raises(PartialFailureError, match=r"1 of 2 cells failed\n  gone/.*no such file"):
        run_study(path, tmp_path / "out", jobs=1)
    assert set(pd.read_csv(tmp_path / "out/study.tsv", sep="\t")["data"]) == {"here"}
