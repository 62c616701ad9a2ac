"""What readers may copy works: commands in the docs and in help texts, README's own session."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from tiny import tiny_config
from twinvae.commands.app import app
from twinvae.config import dump_config, load_config, preset_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOT_COMMAND: Any = get_command(app)


def commands_in(text: str) -> Iterator[str]:
    """The lines of code blocks that call twinvae, continued lines joined, comments left out."""
    text = re.sub(r"\\\n\s*", " ", text)
    yield from re.findall(r"^[ \t]*((?:for .*; do )?twinvae [a-z].*)$", text, re.MULTILINE)


def documented() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for line in commands_in(page.read_text(encoding="utf-8")):
            if "[--" not in line and "|" not in line.split("#")[0]:  # a synopsis
                found.append((page.name, line))
    return found


def parsed(line: str) -> Any:
    """The command's context with every argument and option understood; nothing is run."""
    words = shlex.split(line, comments=True)[1:]
    command, context = ROOT_COMMAND, ROOT_COMMAND.context_class(ROOT_COMMAND)
    while isinstance(command, TyperGroup):
        name, command, words = command.resolve_command(context, words)
        if isinstance(command, TyperGroup):
            context = command.context_class(command, info_name=name, parent=context)
    assert isinstance(command, TyperCommand), line
    return command.make_context(name, words, parent=context)


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from leaves(below, (*words, name))
    else:
        yield " ".join(words), command


def mentioned() -> list[tuple[str, str]]:
    """Commands in the middle of sentences, which may leave arguments out."""
    return [
        (page.name, " ".join(found.split()))
        for page in PAGES
        for found in re.findall(r"`(twinvae [a-z][^`]*)`", page.read_text(encoding="utf-8"))
    ]


def test_the_pages_hold_commands() -> None:
    assert len(documented()) > 20
    assert len(mentioned()) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_was_left_in_the_middle_of_a_merge(page: Path) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", page.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("page", "line"), documented())
def test_a_documented_command_exists_as_it_stands(page: str, line: str) -> None:
    context = parsed(line)
    assert context.info_name in line
    config, settings = context.params.get("config"), context.params.get("settings") or []
    if settings and config in preset_names():
        values = dict(setting.split("=", 1) for setting in settings)
        load_config(config, {key: yaml.safe_load(value) for key, value in values.items()})


def test_options_of_twinvae_itself_are_there() -> None:
    known = {name for param in ROOT_COMMAND.params for name in param.opts} | {"--help"}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    given = set(re.findall(r"twinvae (--[a-z-]+)", text))
    assert {"--install-completion", "--help"} <= given <= known


@pytest.mark.parametrize(("page", "line"), mentioned())
def test_a_command_in_a_sentence_has_the_options_it_is_said_to_have(page: str, line: str) -> None:
    words, command = line.split()[1:], ROOT_COMMAND
    while isinstance(command, TyperGroup) and words and re.fullmatch(r"[a-z|]+", words[0]):
        names = words.pop(0).split("|")
        assert set(names) <= set(command.commands), line
        command = command.commands[names[0]]
    options = {name for one in command.params for name in one.opts}
    given = {word.partition("=")[0].strip("[]") for word in words if re.match(r"\[?--?[a-z]", word)}
    assert given <= options, line


def test_the_script_for_slurm_is_python_and_calls_a_command_that_is_there() -> None:
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    compile(script, "on_slurm.py", "exec")
    (said,) = re.findall(r"`python on_slurm.py ([^`]*)`", page)
    assert '"--dask", cluster.scheduler_address' in script
    assert parsed(f"twinvae {' '.join(said.split())} --dask tcp://host:8786").params["dask"]


@pytest.mark.parametrize(
    "line", re.findall(r"^torchrun --.*$", (ROOT / "docs/scale.md").read_text(), re.M)
)
def test_what_torchrun_is_given_is_a_command(line: str) -> None:
    _, _, command = line.partition(" -m ")
    assert parsed(command).info_name in {"train", "run"}


@pytest.mark.parametrize(("words", "command"), list(leaves(ROOT_COMMAND, ("twinvae",))))
def test_every_command_shows_an_example_that_is_one(words: str, command: Any) -> None:
    assert command.help, words
    assert command.epilog is not None
    assert command.epilog.startswith("Example: ")
    line = command.epilog.removeprefix("Example: ")
    assert line.startswith(words)
    assert parsed(line).command is command


def _other_people(folder: str, other: str) -> None:
    """Scans of ``folder`` once more, as of people whom no model was trained on."""
    for path in Path(shutil.copytree(folder, other)).rglob("*_T2w.nii.gz"):
        image: Any = nib.load(path)
        data = np.asanyarray(image.dataobj)
        nib.save(nib.Nifti1Image(data + (data > 0).astype(data.dtype), image.affine), path)


def test_the_readme_session_does_what_it_says(
    tiny_run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """README's commands in their order, on small scans: only folders and the preset are others."""
    block = next(
        text
        for text in re.findall(r"```bash\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
        if "<<'YAML'" in text
    )
    further = re.findall(r"```bash\n(.*?)```", PAGES[0].read_text(), re.DOTALL)[-1]
    cohort = tiny_run.folder / "cohort"  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(cohort / "healthy", "volunteers")
    shutil.copytree(cohort / "mixed", "patients")
    _other_people("volunteers", "our-volunteers")
    shutil.copyfile(next(Path("patients").glob("sub-*/anat/*_T2w.nii.gz")), "new-patient.nii.gz")
    shutil.copyfile(tiny_run.scores, "SCORES.tsv")  # type: ignore[attr-defined]
    (given,) = re.findall(r"<<'YAML'\n(.*?)\nYAML", block, re.DOTALL)
    written = yaml.safe_load(given)
    load_config(written["preset"], {k: v for k, v in written.items() if k == "contrast"})
    small = dump_config(tiny_config(cohort__phantom=None, cohort__manifest="manifest.tsv"))
    Path("study.yaml").write_text(yaml.safe_dump({**small, "name": written["name"]}))
    done = []
    for line in commands_in(block + further):
        words = shlex.split(line, comments=True)[1:]
        if words[0] == "study":  # needs real scans; tests/test_study.py runs studies
            continue
        words = [word.removeprefix("/data/") for word in words]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (line, result.output, result.exception)
        done.append(words[0])
    assert done == ["index", "index", "run", "detect", "crossval", "calibrate", "evaluate",
                    "yardstick"]  # fmt: skip
    for name in ("runs/study/report.html", "results/summary.tsv", "ours/bundle.json",
                 "judged/report.html", "runs/study/yardstick.tsv"):  # fmt: skip
        assert Path(name).is_file(), name
