"""Reading configurations: a YAML file, or a preset of the package; errors name each bad field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from twinvae.config.recipe_steps import Register
from twinvae.config.run import RunConfig
from twinvae.errors import ConfigError

_PRESETS = files("twinvae.config").joinpath("presets")
_Model = TypeVar("_Model", bound=BaseModel)


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(
        p.name.removesuffix(".yaml") for p in _PRESETS.iterdir() if p.name[-5:] == ".yaml"
    )


def preset_text(name: str) -> str:
    """The YAML of a preset as it ships, comments included."""
    if name not in preset_names():
        raise ConfigError(f"preset {name!r}: expected one of {', '.join(preset_names())}")
    return _PRESETS.joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def load_config(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Load a preset by name or a YAML file by path.

    A file may say ``preset: NAME`` at its top: its other entries are then merged over that
    preset. ``overrides`` maps dotted names (``training.healthy.epochs``) to values. Relative
    paths inside a file are resolved against its folder.
    """
    where = str(name_or_path)
    path = Path(name_or_path)
    if where in preset_names():
        text, folder = preset_text(where), Path.cwd()
    elif path.is_file():
        text, folder = path.read_text(encoding="utf-8"), path.resolve().parent
    else:
        raise ConfigError(
            f"{where}: expected a YAML file or one of the presets {', '.join(preset_names())}"
        )
    values = parse_settings(text, where)
    if "preset" in values:
        base = values.pop("preset")
        preset = parse_settings(preset_text(str(base)), f"preset {base}")
        if "cohort" in values:
            del preset["cohort"]  # it names one place where scans are; two would contradict
        values = _merge(preset, values)
    for dotted, value in (overrides or {}).items():
        values = _merge(values, _nested(dotted, value))
    return _resolve_paths(validated(RunConfig, values, where), folder)


def dump_config(config: BaseModel) -> dict[str, Any]:
    """The configuration as plain values, ready for YAML or JSON."""
    return config.model_dump(mode="json")


def parse_settings(text: str, where: str) -> dict[str, Any]:
    """The settings of a YAML text; ``ConfigError`` naming ``where`` when it is no mapping."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: expected YAML, found {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping of settings, found {_short(values)}")
    return values


def validated(model: type[_Model], values: Any, where: str) -> _Model:
    """Build ``model`` from ``values``; a ``ConfigError`` lists each bad field of ``where``."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in e['loc']) or '(whole)'}: "
            f"{e['msg'].removeprefix('Value error, ')}, found {_short(e['input'])}"
            for e in error.errors()
        ]
        raise ConfigError(f"{where}: not a valid configuration\n" + "\n".join(lines)) from None


def _short(value: Any) -> str:
    """How messages show a value: its repr, at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` on top of ``base``; nested mappings are merged, lists and values replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, dict):
            value = _merge(old, value)  # noqa: PLW2901
        merged[key] = value
    return merged


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {head: _nested(rest, value) if rest else value}


def _resolve_paths(config: RunConfig, folder: Path) -> RunConfig:
    """Paths as absolute ones; ``$NAME`` in them is taken from the environment."""
    cohort = config.cohort
    sources = tuple(
        s.model_copy(update={"path": _resolved(folder, s.path)}) for s in cohort.sources
    )
    update: dict[str, Any] = {"sources": sources}
    if cohort.phantom is not None and cohort.phantom.labels is not None:
        labels = _resolved(folder, cohort.phantom.labels)
        update["phantom"] = cohort.phantom.model_copy(update={"labels": labels})
    if cohort.manifest is not None:
        update["manifest"] = _resolved(folder, cohort.manifest)
    recipe = tuple(
        step.model_copy(update={"template": _resolved(folder, step.template)})
        if isinstance(step, Register) and step.template is not None
        else step
        for step in config.recipe
    )
    trainings = {
        role: options.model_copy(
            update={
                name: _resolved(folder, path)
                for name in ("start", "labels")
                if (path := getattr(options, name)) is not None
            }
        )
        for role, options in (
            ("healthy", config.training.healthy),
            ("mixed", config.training.mixed),
        )
    }
    return config.model_copy(
        update={
            "cohort": cohort.model_copy(update=update),
            "recipe": recipe,
            "training": config.training.model_copy(update=trainings),
        }
    )


def _resolved(folder: Path, path: Path) -> Path:
    expanded = os.path.expandvars(path.expanduser())
    if "$" in expanded:
        raise ConfigError(f"{path}: expected an environment variable of that name, found none")
    return folder / expanded
