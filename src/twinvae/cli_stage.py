"""Do one stage of a run from the command line, with settings changed if asked to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinvae.progress import say


def do_stage(
    folder: Path,
    stage: str,
    overrides: Mapping[str, Any],
    *,
    force: bool = False,
    strict: bool = False,
) -> None:
    """Open the run in ``folder``, keep the dotted ``overrides`` there, and do the stage."""
    from twinvae.config import load_config
    from twinvae.pipeline import run_stage
    from twinvae.run import Run

    opened = Run.open(folder)
    if overrides:
        opened = Run.create(load_config(folder / "config.yaml", overrides), folder)
    with opened.alone():
        done = run_stage(opened, stage, force=force, strict=strict)
    say(f"{stage}: {'done' if done else 'nothing changed'} in {folder}")
