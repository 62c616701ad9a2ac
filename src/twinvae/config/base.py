"""Documented models: fields explain themselves, unknown keys are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Documented(BaseModel):
    """A frozen model that refuses unknown keys; each field carries its own description."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )


def documented_fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One line a setting: dotted name, type, default, meaning; nested models in place."""
    for name, field in model.model_fields.items():
        if name == "step":
            continue  # the line of the step itself names it
        dotted = f"{prefix}{name}"
        default = "required" if field.is_required() else f"default {_plain(field.default)}"
        nested = _models_in(field.annotation)
        shown = " | ".join(m.__name__ for m in nested) or _type_name(field.annotation)
        about = " ".join((field.description or "").split())
        yield f"{dotted}: {shown}, {'see below' if nested else default} — {about}"
        for inner in nested:
            path = dotted
            if "step" in inner.model_fields:
                path = f"{dotted}[{inner.model_fields['step'].default}]"
                yield f"{path}: a step — {' '.join((inner.__doc__ or '').split())}"
            yield from documented_fields(inner, f"{path}.")


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The documented models an annotation mentions, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("pathlib._local.", "")


def _plain(value: Any) -> str:
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
