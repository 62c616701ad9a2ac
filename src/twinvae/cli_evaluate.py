"""The command evaluate: judge a run's scores, or anyone's table of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinvae.cli_options import Device, Jobs, Precision, Seed, Settings, Threads, overrides_of
from twinvae.cli_stage import do_stage
from twinvae.progress import say


def evaluate(
    path: Annotated[
        Path, typer.Argument(help="Folder of a run, or a table of scores.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Table: folder for the results.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Table: the score to report on; default: the first.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Run: redo it even if nothing changed.")] = False,
    strict: Annotated[bool, typer.Option(help="Run: a broken scan stops the stage.")] = False,
    settings: Settings = None,
    device: Device = None,
    threads: Threads = None,
    precision: Precision = None,
    jobs: Jobs = None,
    seed: Seed = None,
) -> None:
    """Judge a run's scores on its test subjects, or a table of scores (docs/evaluation.md)."""
    from twinvae.errors import ConfigError

    overrides = overrides_of(settings, device, threads, precision, jobs, seed)
    if not path.is_file():
        if out is not None or score is not None:
            raise ConfigError(
                f"{path}: expected neither --out nor --score for a run, which keeps its results "
                "in its own folder and names its score in decision.score"
            )
        do_stage(path, "evaluate", overrides, force=force, strict=strict)
        return
    from twinvae.evaluate_table import evaluate_table

    if out is None:
        raise ConfigError(f"{path}: expected -o FOLDER for the results of a table, found none")
    found = evaluate_table(path, out, score=score, overrides=overrides)
    for warning in found.warnings:
        say(f"warning: {warning}")
    say(f"{found.score}: {found.sees} — {out / 'report.html'}")
