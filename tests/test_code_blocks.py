"""Blocks of code in the docs that are no twinvae commands: each is run, loaded or parsed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from twinvae.config import load_config
from twinvae.runs.folder import Run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    (str(page.relative_to(ROOT)), language, code)
    for page in PAGES
    for language, code in re.findall(
        r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def of(*languages: str) -> list[tuple[str, str]]:
    return [(page, code) for page, language, code in BLOCKS if language in languages]


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {language for _, language, _ in BLOCKS} <= {"bash", "python", "yaml", "toml", "text"}
    fences = sum(len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)


@pytest.mark.parametrize("page", sorted({page for page, _ in of("python")}))
def test_some_test_runs_the_python_of_every_page(page: str) -> None:
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    assert any(re.search(rf'["/]{Path(page).name}"', text) for text in tests)


def test_calibration_in_your_own_code(
    tiny_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ((_, code),) = [block for block in of("python") if block[0] == "docs/calibration.md"]
    (tmp_path / "runs/demo").mkdir(parents=True)
    for name in ("calibration.json", "scores.tsv"):
        shutil.copyfile(tiny_run.folder / name, tmp_path / "runs/demo" / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "calibration.md", "exec", dont_inherit=True), names)
    assert "percentile - " in capsys.readouterr().out
    assert len(names["p"]) == len(names["scores"])  # type: ignore[arg-type]


@pytest.mark.parametrize(("page", "code"), of("yaml"))
def test_settings_are_valid_and_other_yaml_is_yaml(page: str, code: str, tmp_path: Path) -> None:
    values = yaml.safe_load(code)
    if "apiVersion" in values:
        assert values["spec"]["template"]["spec"]["containers"]
        return
    (tmp_path / "shown.yaml").write_text(yaml.safe_dump({"preset": "paper", **values}))
    load_config(tmp_path / "shown.yaml")


@pytest.mark.parametrize(("page", "code"), of("toml"))
def test_toml_is_toml(page: str, code: str) -> None:
    assert tomllib.loads(code)


@pytest.mark.parametrize(("page", "code"), of("bash"))
def test_bash_can_read_it(page: str, code: str) -> None:
    done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_make_pip_and_scripts_find_what_is_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(
        re.findall(r"(?:^ {4}|^|`)make ([a-z]+(?:-[a-z]+)*)(?=[ `\n]*(?:[A-Z#`]|$))", TEXT, re.M)
    )
    assert {"demo", "test", "docs"} <= named <= targets
    extras = {
        e for found in re.findall(r"(?:twinvae|\.)\[([a-z,-]+)\]", TEXT) for e in found.split(",")
    }
    assert {"hdbet", "dicom"} <= extras <= set(PROJECT["optional-dependencies"])
    for script in re.findall(r"\b(benchmarks/[\w/]+(?:\.py)?)", TEXT):
        assert (ROOT / script).exists(), script
