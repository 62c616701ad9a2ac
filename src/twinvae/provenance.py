"""With what something was made: versions, revision, and the code itself."""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from twinvae import __version__

STAGE_CODE: dict[str, tuple[str, ...]] = {
    "index": ("cohort", "dicom", "vocabulary.py"),
    "prepare": ("imaging", "cohort/manifest.py", "dicom", "vocabulary.py"),
    "train": (
        *("models", "training", "planting", "cohort/phantom", "imaging/slabs.py"),
        "vocabulary.py",
    ),
    "score": (
        *("scoring", "models", "training/compute.py", "imaging/slabs.py"),
        "vocabulary.py",
    ),
    "calibrate": ("decision", "scoring", "runs/pack.py"),
    "evaluate": ("evaluation", "decision", "scoring"),
    "report": ("reporting", "evaluation", "decision", "scoring", "runs/report_data.py"),
}
"""Folders and files of the package that decide what each stage gives."""
_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel", "scikit-learn")
_HERE = Path(__file__).resolve().parent


def made_with() -> dict[str, Any]:
    """Versions and revision of this machine's Python and packages, ready for JSON."""
    return {
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {"twinvae": __version__} | {name: _version(name) for name in _PACKAGES},
    }


@cache
def code_digest(parts: Sequence[str]) -> str:
    """A fingerprint of the version and of the code of ``parts``, folders or files of the package.

    Another one when what they do may have changed: comments, docstrings and layout do not count,
    versions of packages that offer models or scores do.
    Raises ``FileNotFoundError`` for a part that does not exist.
    """
    return _digest(parts, _meaning)


@cache
def source_digest(parts: Sequence[str]) -> str:
    """As ``code_digest``, by the letter and a hundred times faster: comments count, too."""
    return _digest(parts, str)


def _digest(parts: Sequence[str], of: Callable[[str], str]) -> str:
    found = hashlib.sha256(f"{__version__} {_offered()}".encode())
    for part in parts:
        place = _HERE / part
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for file in files:
            found.update(str(file.relative_to(_HERE)).encode())
            found.update(of(file.read_text(encoding="utf-8")).encode())
    return found.hexdigest()[:16]


def _offered() -> list[tuple[str, str, str]]:
    """What other packages offer, with their versions."""
    found = [
        entry for group in ("models", "scores") for entry in entry_points(group=f"twinvae.{group}")
    ]
    return sorted((e.group, e.value, e.dist.version if e.dist else "") for e in found)


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string that stands alone says something to readers only
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _version(package: str) -> str | None:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return None


@cache
def _git_revision() -> str | None:
    """Revision of the source tree this package runs from; None when installed without one."""
    if _HERE.parent.name != "src":
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(_HERE), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
