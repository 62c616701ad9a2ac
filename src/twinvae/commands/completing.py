"""What the shell offers at <TAB>: names of the package and of a table, found without torch.

A completion that fails offers nothing: a shell is no place for an error message.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import typer

NO_SCORES = frozenset(
    {
        *("subject", "source", "role", "split", "slice", "position", "brain_px", "tumour_px"),
        *("spacing_mm", "session", "grade"),
    }
)
"""Columns of a scores table that are none: as ``scoring.table`` has them, whose import takes torch
along; a test holds the two together."""


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def bundle_names(incomplete: str) -> list[str]:
    """Bundles that come with the package; of a folder, the shell completes the path itself."""
    from twinvae.detection.shipped import shipped_bundles, shipped_composites

    return _beginning((*shipped_bundles(), *shipped_composites()), incomplete)


def presets(incomplete: str) -> list[str]:
    """Presets of the package."""
    from twinvae.config import preset_names

    return _beginning(preset_names(), incomplete)


def stages(incomplete: str) -> list[str]:
    """Stages of a run, in their order."""
    from twinvae.provenance import STAGE_CODE

    return _beginning(STAGE_CODE, incomplete)


def settings(incomplete: str) -> list[str]:
    """Dotted names of settings that ``--set`` takes, up to the equals sign."""
    from twinvae.config import RunConfig, documented_fields

    names = (line.partition(":")[0] for line in documented_fields(RunConfig))
    return _beginning((f"{name}=" for name in names if "[" not in name), incomplete)


def output_layouts(incomplete: str) -> list[str]:
    """How results may be laid out."""
    from twinvae.detection.options import Layout

    return _beginning(get_args(Layout), incomplete)


def roles(incomplete: str) -> list[str]:
    """What a source of scans may be."""
    from twinvae.vocabulary import ROLES

    return _beginning(ROLES, incomplete)


def devices(incomplete: str) -> list[str]:
    """Where networks may run."""
    return _literals("device", incomplete)


def precisions(incomplete: str) -> list[str]:
    """What networks may calculate in."""
    return _literals("precision", incomplete)


def table_scores(ctx: typer.Context, incomplete: str) -> list[str]:
    """Scores in the table that is being evaluated: its columns after those that every table has."""
    # An option that still lacks its value leaves the words before it in ``args``, unread.
    given = (Path(word) for word in (ctx.params.get("path"), *ctx.args) if word)
    path = next((path for path in given if path.is_file()), None)
    if path is None:
        return []
    try:
        with path.open(encoding="utf-8") as table:
            header = table.readline().rstrip("\r\n").split("\t")
    except (OSError, UnicodeDecodeError):
        return []
    return _beginning((name for name in header if name not in NO_SCORES), incomplete)


def _literals(setting: str, incomplete: str) -> list[str]:
    from twinvae.config import ComputeConfig

    return _beginning(get_args(ComputeConfig.model_fields[setting].annotation), incomplete)
