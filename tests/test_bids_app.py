"""The BIDS App: participants, then the group, with the words that every BIDS App takes."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from test_bids_out import VALIDATOR, put
from twinvae.commands import bids_app
from twinvae.files import read_json, write_json
from twinvae.runs.folder import Run


@pytest.fixture
def dataset(tiny_scan: Path, tmp_path: Path) -> Path:
    names = [f"sub-{one}/ses-{s}/anat/sub-{one}_ses-{s}_T2w.nii.gz" for one in "12" for s in "ab"]
    return put(tiny_scan, tmp_path / "study", *names)


def app(*words: str | Path) -> int:
    """The exit code of a call."""
    try:
        bids_app.main([str(word) for word in words])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_participants_then_the_group(tiny_run: Run, dataset: Path) -> None:
    out = dataset / "derivatives/twinvae"
    first = [dataset, out, "participant", "--bundle", tiny_run.bundle, "--skip-bids-validation"]
    assert app(*first, "--participant-label", "1", "sub-2", "--session-label", "a") == 0
    assert [path.name for path in sorted(out.glob("sub-*.html"))] == [
        "sub-1_ses-a_T2w.html", "sub-2_ses-a_T2w.html",
    ]  # fmt: skip
    assert app(*first, "--participant_label", "2") == 0
    names = ["sub-1_ses-a_T2w", "sub-2_ses-a_T2w", "sub-2_ses-b_T2w"]
    assert pd.read_csv(out / "summary.tsv", sep="\t")["name"].tolist() == names
    (out / "sub-1/ses-a/anat/sub-1_ses-a_desc-verdict_T2w.json").unlink()
    (out / "index.html").unlink()
    assert app(dataset, out, "group") == 0
    assert pd.read_csv(out / "summary.tsv", sep="\t")["name"].tolist() == names[1:]
    table = pd.read_csv(out / "participants.tsv", sep="\t")
    assert table[["participant_id", "results"]].to_numpy().tolist() == [["sub-2", 2]]
    text = (out / "index.html").read_text(encoding="utf-8")
    for name in names[1:]:
        assert f'href="{name}.html"' in text
        assert f"/figures/{name.removesuffix('_T2w')}_desc-thumbnail_T2w.png" in text
    assert not (out / "sub-1/ses-a/sub-1_ses-a_scans.tsv").exists()


def test_cores_are_shared_by_the_processes_that_there_are_scans_for(
    tiny_run: Run, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(bids_app, "judge_as_planned", lambda plan, **_: seen.append(plan.options))
    words = [dataset, dataset / "derivatives/t", "participant", "--bundle", tiny_run.bundle,
             "--skip-bids-validation"]  # fmt: skip
    app(*words, "--n_cpus", "6")
    app(*words, "--n_cpus", "2", "--skull-strip", "auto")
    app(*words, "--participant-label", "1", "--session-label", "b", "--skull-strip", "template")
    assert [(one.jobs, one.threads) for one in seen] == [(4, 1), (2, 1), (1, 1)]
    assert [one.skull_strip for one in seen] == [False, True, "template"]


@pytest.mark.skipif(VALIDATOR is None, reason="no bids-validator-deno")
def test_a_data_set_that_is_not_valid_is_told_and_can_be_judged_all_the_same(
    tiny_run: Run,
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(Path(str(VALIDATOR)).parent), prepend=":")
    shutil.copyfile(next(dataset.rglob("*.nii.gz")), dataset / "sub-1/ses-a/anat/mine.nii.gz")
    words = [dataset, dataset / "derivatives/t", "participant", "--bundle", tiny_run.bundle,
             "--dry-run"]  # fmt: skip
    assert app(*words) == 3
    said = capsys.readouterr().err
    assert "expected a valid BIDS data set, found 1 errors" in said
    assert "mine.nii.gz" in said
    assert app(*words, "--skip-bids-validation") == 0
    (dataset / "sub-1/ses-a/anat/mine.nii.gz").unlink()
    assert app(*words) == 0


def test_without_the_validator_it_is_said_that_nothing_was_validated(
    tiny_run: Run,
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(dataset))
    words = [dataset, dataset / "derivatives/t", "participant", "--bundle", tiny_run.bundle]
    assert app(*words, "--dry-run") == 0
    assert "no BIDS validation" in capsys.readouterr().err


def test_what_cannot_be_done_has_its_exit_code(
    tiny_run: Run, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = [out, "participant", "--bundle", tiny_run.bundle, "--skip-bids-validation"]
    assert app(dataset, *given, "--participant-label", "7") == 3
    assert app(dataset, *given, "--n_cpus", "0") == 2
    assert app(dataset, out, "run") == 2
    assert app(tmp_path / "none", *given) == 3
    assert app(dataset, out, "group") == 3
    out.mkdir()
    assert app(dataset, out, "group") == 3
    write_json(out / "mine.json", {})
    assert app(dataset, out, "group") == 7
    assert app(dataset, *given) == 7
    assert read_json(out / "mine.json") == {}
    assert "Traceback" not in capsys.readouterr().err


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/bids.md").read_text(encoding="utf-8")


def test_calls_in_the_docs_are_understood() -> None:
    page = re.sub(r"\s*\\\n\s*", " ", PAGE)
    calls = re.findall(r"^ *twinvae-bids (/.*)$", page, re.MULTILINE)
    calls += re.findall(r"(?:docker|apptainer) run .* twinvae(?:\.sif)? (/.*)$", page, re.MULTILINE)
    assert len(calls) == 4
    for call in calls:
        bids_app._parser().parse_args(shlex.split(call))
    synopsis = re.findall(r"\[(--[\w-]+)", PAGE)
    known = {name for action in bids_app._parser()._actions for name in action.option_strings}
    assert {"--participant-label", "--n_cpus", "--bundle"} <= set(synopsis) <= known


def test_both_containers_install_and_run_the_same_app() -> None:
    docker, apptainer = ((ROOT / name).read_text() for name in ("Dockerfile", "Singularity"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert 'ENTRYPOINT ["twinvae-bids"]' in docker
    assert 'exec twinvae-bids "$@"' in apptainer
    assert project["scripts"]["twinvae-bids"] == "twinvae.commands.bids_app:main"
    for recipe in (docker, apptainer):
        (base,) = re.findall(r"python:(\d\.\d+)-slim", recipe)
        assert tuple(map(int, base.split("."))) >= (3, 11)
        assert ".ci/install-app" in recipe
    copied = re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in (ROOT / ".dockerignore").read_text().split(), name
        assert name in apptainer, name
    assert docker.index("USER app") < docker.index("ENTRYPOINT")
    assert "'.[bids]'" in (ROOT / ".ci/install-app").read_text()
    assert "docker build" in (ROOT / ".github/workflows/ci.yml").read_text()
