"""Records are values: nothing that was handed over is changed by whoever got it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil


def changeable(package: str) -> list[str]:
    """Names of the dataclasses of ``twinvae.PACKAGE`` whose fields can be set anew."""
    found = []
    root = importlib.import_module(f"twinvae.{package}")
    for info in pkgutil.iter_modules(root.__path__, f"{root.__name__}."):
        for name, one in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            own = one.__module__ == info.name and dataclasses.is_dataclass(one)
            if own and not one.__dataclass_params__.frozen:  # type: ignore[attr-defined]
                found.append(f"{info.name.removeprefix(root.__name__)}.{name}")
    return found
