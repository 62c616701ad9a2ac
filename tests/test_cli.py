"""The command line: what a user types, what they see, and the exit code."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tiny import TINY
from twinvae.config import load_config
from twinvae.runs.folder import Run


def twinvae(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twinvae", *map(str, words)],
        capture_output=True, text=True, cwd=cwd, check=False,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip


def test_help_is_quick() -> None:
    """Half a second of one core; CPU time, since tests share their cores with each other."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "twinvae", "--help"],
            capture_output=True, text=True, check=True, env=_without_coverage(),
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "not for clinical use" in done.stdout.lower()
    assert min(seconds) < 0.5


def _without_coverage() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("COV")}


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, twinvae.commands.app; "
    code += "print([m for m in ('torch','pandas','nibabel','matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_config_show_prints_what_loads_again(tmp_path: Path) -> None:
    done = twinvae("config", "show", "paper")
    assert done.returncode == 0
    shown = tmp_path / "paper.yaml"
    shown.write_text(done.stdout)
    assert load_config(shown) == load_config("paper")


def test_config_fields_explains_every_setting() -> None:
    lines = twinvae("config", "fields").stdout.splitlines()
    assert len(lines) > 60
    assert all(line.rpartition(" — ")[2].strip() for line in lines)
    assert any(
        line.startswith("training.healthy.kl_ramp_epochs: float, default 5") for line in lines
    )


def test_describe_counts_the_papers_parameters() -> None:
    out = twinvae("describe", "paper").stdout
    assert "512×4×4" in out
    assert "1024×4×4" in out
    assert out.count("transposed conv 4×4, stride 2") == 9


def test_lists_name_what_there_is() -> None:
    assert "demo" in twinvae("config", "list").stdout
    assert "latent_l2" in twinvae("scores", "list").stdout
    assert "vae" in twinvae("models", "list").stdout
    assert twinvae("--version").stdout.startswith("twinvae ")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "nonsense"], 2, "expected a YAML file or one of the presets best, demo, paper"),
        (["run", "demo", "--set", "training.healthy.epohs=3"], 2, "training.healthy.epohs"),
        (["run", "demo", "--set", "epochs"], 2, "expected key=value"),
        (["run", "demo", "--device", "tpu"], 2, "compute.device"),
        (["run", "demo", "--set", "cohort.split.train=0.9"], 2, "must be 1, found 1.3"),
        (["phantom", "out", "--spacing-mm", "9"], 2, "spacing_mm"),
        (["index", "nowhere", "--role", "healthy"], 3, "nowhere: no such file or folder"),
        (["index", ".", "--role", "sick"], 2, "role"),
        (["score", "."], 4, "expected a run's folder"),
        (["detect", "nowhere", "scan.nii", "-o", "out"], 3, "nowhere: no such folder"),
        (["nonsense"], 2, "nonsense"),
        (["run", "my [bold] study.yaml"], 2, "my [bold] study.yaml: expected a YAML file"),
    ],
)
def test_wrong_words_are_explained(tmp_path: Path, words: list[str], code: int, says: str) -> None:
    done = twinvae(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_configuration_errors_name_each_field(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump({"preset": "demo", "seed": -1, "colour": "red"}))
    done = twinvae("run", file, cwd=tmp_path)
    assert done.returncode == 2
    assert "seed: Input should be greater than or equal to 0, found -1" in done.stderr
    assert "colour" in done.stderr
    file.write_text("a: [1,")
    assert "expected YAML" in twinvae("run", file, cwd=tmp_path).stderr
    file.write_text("- a\n- b\n")
    assert "expected a mapping" in twinvae("run", file, cwd=tmp_path).stderr


def test_a_whole_run_stage_by_stage_from_the_command_line(tiny_run: Run, tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    plain = yaml.safe_load((tiny_run.folder / "config.yaml").read_text())
    file.write_text(yaml.safe_dump(plain | {"name": "by-hand"}))
    done = twinvae("run", file, "--until", "index", "--threads", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for stage in ("prepare", "train", "score", "calibrate", "evaluate", "report"):
        done = twinvae(stage, "runs/by-hand", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{stage}: done" in done.stderr
    again = twinvae("score", "runs/by-hand", cwd=tmp_path)
    assert "score: nothing changed" in again.stderr
    scores = (tmp_path / "runs/by-hand/scores.tsv").read_bytes()
    assert scores == tiny_run.scores.read_bytes()
    weights = tmp_path / "runs/by-hand/models/mixed/weights.safetensors"
    before = weights.read_bytes()
    done = twinvae("train", "runs/by-hand", "--seed", 7, "--threads", 1, cwd=tmp_path)
    assert "train: done" in done.stderr
    assert weights.read_bytes() != before


def test_phantom_and_index_and_detect_speak_plainly(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path
) -> None:
    done = twinvae("phantom", "c", "--healthy", 8, "--mixed", 8, "--spacing-mm", 4, "--jobs", 1,
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "8 healthy and 8 mixed" in done.stderr
    for role in ("healthy", "mixed"):
        done = twinvae(
            "index", f"c/{role}", "--role", role, "-o", "m.tsv", "--append", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
    assert "16 scans of 16 subjects" in done.stderr
    done = twinvae("detect", tiny_run.bundle, tiny_scan, "-o", tmp_path / "out", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stderr
    assert (tmp_path / "out/summary.tsv").is_file()
    bad = twinvae("detect", tiny_run.bundle, tiny_scan, "gone.nii", "-o", tmp_path / "out")
    assert bad.returncode == 3
    assert "gone.nii: no such file" in bad.stderr


def test_tiny_settings_are_valid() -> None:
    assert load_config("demo", TINY).name == "tiny"
