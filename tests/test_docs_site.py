"""The documentation site: every page in it, every link good, the reference as the code is."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

import twinvae
from twinvae.commands.app import app
from twinvae.config import RunConfig, documented_fields
from twinvae.errors import TwinvaeError
from twinvae.files import read_json

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CODES = {0, *(kind.exit_code for kind in (TwinvaeError, *TwinvaeError.__subclasses__()))}


def _hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "hooks" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    pages: dict[str, str] = _hook().pages()
    return pages


@pytest.fixture(scope="module")
def pages(generated: dict[str, str]) -> dict[str, str]:
    """Every page of the site, by its path in docs/."""
    written = {
        str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")
    }
    return written | generated


def slugs(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    found = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in found}


def links(text: str) -> Iterator[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            yield target


def leads_nowhere(page: Path, text: str, generated: dict[str, str]) -> list[str]:
    """Those of a page's links that name no file, or no heading of it.

    A page of the site leads to others of the site, and to the notebooks, which it takes along.
    """

    def good(target: str) -> bool:
        name, _, anchor = target.partition("#")
        to = Path(os.path.normpath(page.parent / name)) if name else page
        site = (DOCS, ROOT / "examples")
        if page.is_relative_to(DOCS) and not any(to.is_relative_to(part) for part in site):
            return False
        made = generated.get(str(to.relative_to(DOCS))) if to.is_relative_to(DOCS) else None
        if to == page:
            made = text
        if made is None and not to.is_file():
            return False
        return not anchor or anchor in slugs(made or to.read_text(encoding="utf-8"))

    return [target for target in links(text) if not good(target)]


def test_every_link_leads_to_a_page_and_a_heading(
    pages: dict[str, str], generated: dict[str, str]
) -> None:
    for name, text in pages.items():
        assert leads_nowhere(DOCS / name, text, generated) == [], name
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert leads_nowhere(ROOT / name, text, {}) == [], name


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = (
        "# Here\n[a](#here) [b](#there) [c](no.md) [d](results.md#no) "
        "[e](made.md) [f](../README.md)"
    )
    assert leads_nowhere(DOCS / "x.md", text, {"made.md": "# Made"}) == [
        "#there",
        "no.md",
        "results.md#no",
        "../README.md",
    ]


def _named(nav: Any) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _named(value)


def test_the_navigation_names_every_page_once(pages: dict[str, str]) -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text[text.index("\nnav:\n") :])["nav"]
    assert sorted(_named(nav)) == sorted(pages)


def test_the_reference_names_every_command_and_option(generated: dict[str, str]) -> None:
    page = generated["reference/cli.md"]

    def look(command: Any, words: str) -> None:
        for name, below in getattr(command, "commands", {}).items():
            look(below, f"{words} {name}")
        if hasattr(command, "commands"):
            return
        (part,) = re.findall(rf"^## {words}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert command.epilog.removeprefix("Example: ") in part
        for param in command.params:
            names = [*param.opts, *param.secondary_opts]
            shown = names if names[0].startswith("-") else [param.name.upper()]
            assert all(f"`{name}`" in part for name in shown), (words, shown)

    look(get_command(app), "twinvae")


def test_the_reference_names_every_setting_and_export(generated: dict[str, str]) -> None:
    settings = re.findall(
        r"^\| `([^`]+)` \|", generated["reference/configuration.md"], re.MULTILINE
    )
    headings = re.findall(r"^## (\w+)$", generated["reference/configuration.md"], re.MULTILINE)
    for line in documented_fields(RunConfig):
        name = line.partition(": ")[0]
        assert name in settings or name in headings, name
    exported = re.findall(r"^      heading: (\w+)$", generated["reference/python.md"], re.MULTILINE)
    assert sorted(exported) == sorted(twinvae._EXPORTS)


def test_every_exit_code_is_explained(pages: dict[str, str]) -> None:
    for name in ("reference/exit-codes.md", "troubleshooting.md"):
        rows = {int(code) for code in re.findall(r"^\| (\d+) \|", pages[name], re.MULTILINE)}
        assert rows >= CODES - {0}, name
    assert {int(c) for c in re.findall(r"^\| (\d) \|", pages["troubleshooting.md"], re.M)} == CODES


def test_the_messages_that_are_explained_are_those_that_twinvae_gives() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src/twinvae").rglob("*.py")
    )
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a message over several lines
    code = re.sub(r"\{[^{}\n]*\}", "…", code).replace(" …", "…").replace("… ", "…")
    quoted = re.findall(r"^> (.*)$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(quoted) > 10
    for message in quoted:
        for words in filter(None, (part.strip() for part in message.split("…"))):
            assert words in code, message


def test_glossary_words_stand_in_their_order() -> None:
    text = (DOCS / "concepts.md").read_text(encoding="utf-8")
    words = re.findall(r"^### (.*)$", text[text.index("## Glossary") :], re.MULTILINE)
    assert len(words) > 30
    assert words == sorted(words, key=str.lower)


def test_the_tutorial_shows_what_its_commands_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generated part, as it stands there; real scans are the reader's to fetch."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    mine = text[: text.index("## 4. A real scan")]
    said = ""
    for block in re.findall(r"```bash\n(.*?)```", mine, re.DOTALL):
        for line in block.strip().splitlines():
            done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
            assert done.exit_code == 0, (line, done.output, done.exception)
            said += done.output
    (shown,) = re.findall(r"```text\n(.*?)```", mine, re.DOTALL)
    found = pd.read_csv("results/summary.tsv", sep="\t", index_col="name")["verdict"]
    assert dict(found) == {"sub-M001_T2w": "abnormal", "sub-H001_T2w": "healthy"}
    words = {"abnormal": "ABNORMAL", "healthy": "no abnormality found"}
    assert shown.splitlines() == [
        f"{name}: {words[verdict]} — results/{name}/report.html" for name, verdict in found.items()
    ]
    for name in found.index:
        assert {"verdict.json", "slices.tsv", "lesions.tsv", "report.html"} <= {
            path.name for path in Path("results", name).iterdir()
        }
        assert read_json(Path("results", name, "verdict.json"))
    assert Path("results/index.html").is_file()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if any(
        importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")
    ):
        pytest.skip("the site's tools are not installed here: pip install '.[docs]', or make docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/reference/cli.html").is_file()
    html = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!squidfunk)', html), "fetched from afar"
