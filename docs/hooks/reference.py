"""Pages of the documentation that are made when it is built: they say what the code says.

``mkdocs.yml`` names this file as a hook. ``pages`` needs twinvae alone; MkDocs calls ``on_files``
and ``on_page_markdown``. The notebooks of examples/ go along, to be downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOTE = "*Made from the code when this site was built.*\n"


def pages() -> dict[str, str]:
    """Markdown of every generated page, by its path below docs/."""
    return {
        "reference/cli.md": cli(),
        "reference/python.md": python(),
        "reference/configuration.md": configuration(),
        "reference/exit-codes.md": exit_codes(),
        "reference/scores.md": scores(),
        "reference/models.md": models(),
        "contributing.md": _from_root("CONTRIBUTING.md"),
        "changelog.md": _from_root("CHANGELOG.md"),
    }


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: add the generated pages, and the notebooks, to those that lie in docs/."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        files.append(File.generated(config, f"examples/{notebook.name}", abs_src_path=notebook))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs: the notebooks lie beside docs/ in the repository, and within it in the site."""
    return markdown.replace("](../examples/", "](examples/")


def cli() -> str:
    """Every command with its arguments and options, as the program itself has them."""
    from typer.main import get_command

    from twinvae.commands.app import app

    lines = ["# Commands", "", NOTE, "`twinvae COMMAND --help` prints the same.", ""]
    for words, command in _commands(get_command(app), "twinvae"):
        lines += [f"## {words}", "", _linked(command.help or ""), ""]
        lines += [_row("argument or option", "meaning"), "|---|---|"]
        lines += [*(_parameter(param, command) for param in command.params), ""]
        example = (command.epilog or "").removeprefix("Example: ")
        lines += [f"    {example}", ""] if example else []
    return "\n".join(lines)


def python() -> str:
    """What ``import twinvae`` exports, for mkdocstrings to fill from the docstrings."""
    import twinvae

    lines = ["# Python", "", NOTE, "All of these are imported from `twinvae` itself:", ""]
    lines += ["    from twinvae import detect_scans", ""]
    for name in sorted(twinvae._EXPORTS, key=str.lower):
        one = getattr(twinvae, name)
        lines += [f"::: {one.__module__}.{one.__qualname__}", "    options:"]
        lines += [f"      heading: {name}", "      show_root_heading: true", ""]
    return "\n".join(lines)


def configuration() -> str:
    """Every setting of a run, and the presets."""
    from twinvae.config import RunConfig, documented_fields, load_config, preset_names

    lines = ["# Configuration", "", NOTE, "Presets (`twinvae config show NAME` prints one):", ""]
    lines += [_row("preset", "for"), "|---|---|"]
    lines += [_row(f"`{name}`", load_config(name).about) for name in preset_names()]
    lines += ["", "Settings, as `--set` and YAML files take them:", ""]
    section = None
    for line in documented_fields(RunConfig):
        what, _, about = line.partition(" — ")
        name, _, kind = what.partition(": ")
        top = re.split(r"[.\[]", name)[0]
        nested = "see below" in kind or kind == "a step"
        if top != section and nested:
            lines += ["", f"## {top}", "", _linked(about), "", _row("setting", "type", "meaning")]
            lines += ["|---|---|---|"]
            section = top
            continue
        if section is None and lines[-1] == "":
            lines += [_row("setting", "type", "meaning"), "|---|---|---|"]
        lines += [_row(f"`{name}`", f"`{kind}`", _linked(about))]
    return "\n".join(lines) + "\n"


def exit_codes() -> str:
    """Every kind of error with its exit code."""
    from twinvae.errors import TwinvaeError

    lines = ["# Exit codes", "", NOTE]
    lines += [
        "0 is success. What to do about the others: [troubleshooting](../troubleshooting.md).",
        "",
    ]
    lines += [_row("code", "error", "meaning"), "|---|---|---|"]
    kinds = [TwinvaeError, *TwinvaeError.__subclasses__()]
    for kind in sorted(kinds, key=lambda kind: kind.exit_code):
        about = " ".join((kind.__doc__ or "").split())
        lines += [_row(str(kind.exit_code), f"`{kind.__name__}`", _linked(about))]
    return "\n".join(lines) + "\n"


def scores() -> str:
    """Every score and every map, with its source."""
    from twinvae.scoring import MAPS, SCORES

    lines = ["# Scores and maps", "", NOTE, "What they mean: [scores](../scores.md).", ""]
    for title, found in (("Scores", SCORES), ("Maps", MAPS)):
        lines += [f"## {title}", "", _row("name", "what", "source"), "|---|---|---|"]
        named = found.values()
        lines += [_row(f"`{one.name}`", _linked(one.summary), one.source) for one in named]
        lines += [""]
    return "\n".join(lines)


def models() -> str:
    """Every model, its source, and the options that only it has."""
    from twinvae.models import all_models, model_lines

    lines = ["# Models", "", NOTE, "How to choose and train one: [models](../models.md).", ""]
    for kind in all_models():
        lines += [f"## {kind}", "", "```text", *model_lines(kind), "```", ""]
    return "\n".join(lines)


def _commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, f"{words} {name}")
    if not hasattr(command, "commands"):
        yield words, command


def _parameter(param: Any, command: Any) -> str:
    """A row: the option's names, or the argument's in capitals, and what it does."""
    names = param.opts + param.secondary_opts
    if not names[0].startswith("-"):
        names = [param.name.upper()]
    annotation = str(signature(command.callback).parameters[param.name].annotation)
    notes = [_linked(getattr(param, "help", None) or "")]
    if "list[" in annotation and "repeatable" not in notes[0]:
        notes.append("More than one may be given.")
    if param.required:
        notes.append("**Required.**")
    elif param.default and not callable(param.default):
        notes.append(f"Default: `{param.default}`.")
    return _row(" ".join(f"`{name}`" for name in names), " ".join(notes))


def _row(*cells: str) -> str:
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def _linked(text: str) -> str:
    """Docstrings name pages as docs/PAGE.md; here they are links. What is no markup is escaped."""
    text = text.replace("``", "`").replace("<", "&lt;")
    text = re.sub(r"(?<!`)\*(?!`)", r"\\*", text) if "`" not in text else text
    return re.sub(r"\bdocs/([\w-]+)\.md", r"[\1](../\1.md)", text)


def _from_root(name: str) -> str:
    """A page of the repository's root, its links seen from docs/."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for path, seen in (("CONTRIBUTING", "contributing"), ("CHANGELOG", "changelog")):
        text = text.replace(f"]({path}.md", f"]({seen}.md")
    text = text.replace("](docs/", "](")
    return re.sub(r"(?<![\[(/`\w])docs/([\w-]+)\.md", r"[\1](\1.md)", text)
