"""Where a run keeps its two models: a folder each, or one where one training serves both."""

from __future__ import annotations

from pathlib import Path

from twinvae.models.contract import ROLES, Model
from twinvae.models.registry import load_model

SHARED = "shared"
"""Folder of a model that is both twins."""


def twin_folders(models: Path) -> dict[str, Path]:
    """Folder of each role's model in ``models``."""
    shared = models / SHARED
    return {role: shared if (shared / "model.json").is_file() else models / role for role in ROLES}


def load_twins(models: Path) -> tuple[Model, Model]:
    """The healthy and the mixed model stored in ``models``, on the CPU, in evaluation mode.

    A conditional model is loaded once; its two views share all weights.
    """
    folders = twin_folders(models)
    healthy = load_model(folders["healthy"])
    shared = folders["mixed"] == folders["healthy"]
    mixed = healthy if shared else load_model(folders["mixed"])
    return healthy.for_role("healthy"), mixed.for_role("mixed")
