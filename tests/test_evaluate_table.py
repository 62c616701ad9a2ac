"""Anyone's table of scores is judged as a run's own would be, or refused with a clear reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from twinvae.commands.app import app
from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate
from twinvae.errors import ConfigError, DataError
from twinvae.evaluation import audit, evaluate, read_metrics
from twinvae.evaluation.what_it_sees import TUMOURS
from twinvae.files import read_json
from twinvae.runs.evaluate_table import evaluate_table
from twinvae.scoring import read_scores

QUICK = {"evaluation.resamples": 100, "evaluation.min_tumour_px": [0, 50]}


def others(seed: int = 0) -> pd.DataFrame:
    """Scores of some other system: 24 healthy and 16 mixed subjects of 20 slices."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "subject": np.repeat([f"p{n:02d}" for n in range(40)], 20),
            "source": "their_site",
            "role": np.repeat(["healthy", "mixed"], [480, 320]),
            "split": np.repeat(["val", "test"], [240, 560]),
            "slice": np.tile(np.arange(20), 40),
            "position": np.tile(np.linspace(0, 1, 20), 40),
            "brain_px": 3000 + rng.integers(0, 400, 800),
            "tumour_px": 0.0,
        }
    )
    ill = (table["role"] == "mixed") & (rng.random(800) < 0.4)
    table.loc[ill, "tumour_px"] = rng.integers(60, 900, int(ill.sum()))
    table["trivial_brain_area"] = table["brain_px"]
    table["their_score"] = rng.normal(size=800) + 2 * ill
    table["their_other"] = rng.normal(size=800)
    return table


@pytest.fixture
def write(tmp_path: Path) -> Callable[[pd.DataFrame], Path]:
    def writer(table: pd.DataFrame) -> Path:
        table.to_csv(tmp_path / "theirs.tsv", sep="\t", index=False)
        return tmp_path / "theirs.tsv"

    return writer


def test_same_numbers_as_a_runs_own(tmp_path: Path, write: Callable[[pd.DataFrame], Path]) -> None:
    path, out = write(others()), tmp_path / "out"
    found = evaluate_table(path, out, overrides=QUICK | {"seed": 3})
    assert (found.score, found.sees) == ("their_score", TUMOURS)
    scores = read_scores(path)
    config = EvaluationConfig(resamples=100, min_tumour_px=(0, 50))
    calibration = calibrate(scores, DecisionConfig(score="their_score"))
    assert read_json(out / "calibration.json")["scores"] == calibration["scores"]
    metrics = evaluate(scores, calibration, config, seed=3)
    pd.testing.assert_frame_equal(read_metrics(out / "metrics.tsv"), metrics)
    assert read_json(out / "audit.json") == audit(scores, calibration, config, seed=3)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "their score" in page
    assert any("no column spacing_mm" in warning for warning in found.warnings)
    known = evaluate_table(write(others().assign(spacing_mm=0.9)), out, overrides=QUICK)
    assert not any("spacing_mm" in warning for warning in known.warnings)
    assert read_json(out / "audit.json")["support"]["pixel_mm2"] == [pytest.approx(0.81)] * 2
    assert "theirs.tsv" in page


def test_without_healthy_validation_slices_ranks_only(
    tmp_path: Path, write: Callable[[pd.DataFrame], Path]
) -> None:
    table, out = others(), tmp_path / "out"
    evaluate_table(write(table), out, overrides=QUICK)
    found = evaluate_table(
        write(table[table["role"] == "mixed"]), out, score="their_other", overrides=QUICK
    )
    assert found.score == "their_other"
    assert "no thresholds" in found.warnings[0]
    assert not (out / "calibration.json").exists(), "of the earlier table"
    metrics = read_metrics(out / "metrics.tsv").query("subset == 'mixed' and level == 'slice'")
    metrics = metrics[metrics["min_tumour_px"] == 50].set_index(["score", "metric"])["value"]
    assert np.isnan(metrics["their_score", "accuracy"])
    assert metrics["their_score", "auroc"] > 0.85
    report = read_json(out / "audit.json")
    assert report["scores"]["their_score"]["false_positive_rates"] == []
    assert report["scores"]["their_score"]["sees"] == TUMOURS
    assert "no thresholds" in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="position"), "missing column position"),
        (lambda t: t.drop(columns=[c for c in t if "their_" in c or "trivial" in c]), "score col"),
        (lambda t: t.assign(their_score="high"), "line 2, column their_score: .* number"),
        (lambda t: t.assign(their_score=np.nan), "line 2, column their_score: .* found nothing"),
        (lambda t: t.assign(their_score=np.inf), "line 2, column their_score: expected a finite"),
        (lambda t: t.assign(role="ill"), "line 2, column role: expected one of healthy, mixed"),
        (lambda t: t.assign(split="val"), "rows of role mixed and split test .*found 0 and 0"),
        (lambda t: t.assign(tumour_px=0), "expected tumour slices .*found 0 and 320"),
        (lambda t: t[(t.role == "healthy") | (t.tumour_px > 50)], "and tumour-free .* and 0$"),
        (lambda t: pd.concat([t, t.tail(1)]), "line 802: expected each slice once.*p39, slice 19"),
    ],
)
def test_bad_tables_are_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame],
    says: str,
    tmp_path: Path,
    write: Callable[[pd.DataFrame], Path],
) -> None:
    with pytest.raises(DataError, match=says) as error:
        evaluate_table(write(change(others())), tmp_path / "out")
    assert "theirs.tsv" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_bad_settings_are_refused(tmp_path: Path, write: Callable[[pd.DataFrame], Path]) -> None:
    path, out = write(others()), tmp_path / "out"
    with pytest.raises(ConfigError, match=r"models\.kind: expected evaluation\.…, decision\.…"):
        evaluate_table(path, out, overrides={"models.kind": "vae"})
    with pytest.raises(ConfigError, match="found their_best"):
        evaluate_table(path, out, score="their_best")
    with pytest.raises(ConfigError, match="evaluation"):
        evaluate_table(path, out, overrides={"evaluation.resamples": -1})


def test_command(tmp_path: Path, write: Callable[[pd.DataFrame], Path]) -> None:
    path, out = str(write(others())), str(tmp_path / "out")
    quick = ["--set", "evaluation.resamples=50"]
    done = CliRunner().invoke(app, ["evaluate", path, "-o", out, *quick])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/report.html").is_file()
    without = CliRunner().invoke(app, ["evaluate", path])
    assert isinstance(without.exception, ConfigError)
    assert "expected -o FOLDER" in str(without.exception)
    run = CliRunner().invoke(app, ["evaluate", str(tmp_path), "-o", out])
    assert isinstance(run.exception, ConfigError)
    assert "expected neither --out nor --score" in str(run.exception)


def test_the_docs_example_runs() -> None:
    page = Path(__file__).parents[1] / "docs/evaluation.md"
    code = re.search(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, object] = {"table": others()}
    exec(code[1], names)
    assert names["verdict"] == TUMOURS
