"""Commands about runs: whole ones, many, and each stage of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinvae.commands import completing
from twinvae.commands.options import (
    Dask,
    Device,
    Jobs,
    Precision,
    Preset,
    RunFolder,
    Seed,
    Settings,
    Threads,
    TrustGrid,
    example,
    overrides_of,
)
from twinvae.progress import say

if TYPE_CHECKING:  # a command imports it when it is called
    from twinvae.runs.folder import Run


@example("twinvae run best --set cohort.manifest=scans.tsv -o runs/mine")
def run(
    config: Preset,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: runs/NAME.")] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Stop after this stage.", autocompletion=completing.stages),
    ] = None,
    strict: Annotated[bool, typer.Option(help="A broken scan stops the run.")] = False,
    settings: Settings = None,
    device: Device = None,
    threads: Threads = None,
    precision: Precision = None,
    jobs: Jobs = None,
    seed: Seed = None,
) -> None:
    """Do every stage of a run, from scans to report; goes on where it was cut off."""
    from twinvae.config import load_config
    from twinvae.runs.folder import Run
    from twinvae.runs.stages import run_stages

    resolved = load_config(config, overrides_of(settings, device, threads, precision, jobs, seed))
    folder = out or Path("runs") / resolved.name
    run_stages(Run.create(resolved, folder), until=until, strict=strict)


@example("twinvae crossval best --folds 5 --set cohort.manifest=scans.tsv -o runs/folds")
def crossval(
    config: Preset,
    folds: Annotated[int, typer.Option(min=2, help="Parts the mixed subjects are cut into.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: runs/NAME.")] = None,
    strict: Annotated[bool, typer.Option(help="A broken scan stops everything.")] = False,
    settings: Settings = None,
    device: Device = None,
    threads: Threads = None,
    precision: Precision = None,
    jobs: Jobs = None,
    seed: Seed = None,
) -> None:
    """Test every mixed subject that has a mask once, by a model that never saw it."""
    from twinvae.config import load_config
    from twinvae.runs.crossval import cross_validate

    resolved = load_config(config, overrides_of(settings, device, threads, precision, jobs, seed))
    cross_validate(resolved, out or Path("runs") / resolved.name, folds, strict=strict)


@example("twinvae study configs/study.yaml -o studies/mine")
def study(
    path: Annotated[Path, typer.Argument(help="The study's YAML file.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: studies/NAME.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells at once; default: cores.")] = None,
    dask: Dask = None,
) -> None:
    """Compare models, scores and seeds on sets of scans; goes on where it was cut off."""
    from twinvae.runs.study import run_study

    run_study(path, out, jobs=jobs, dask=dask)


@example("twinvae prepare runs/demo --jobs 2")
def prepare(
    folder: RunFolder,
    force: Annotated[bool, typer.Option(help="Redo it even if nothing changed.")] = False,
    strict: Annotated[bool, typer.Option(help="A broken scan stops the stage.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="Prepare only share i of n, as 3/8; then --merge.")
    ] = None,
    merge: Annotated[bool, typer.Option(help="Make slices of what all shards prepared.")] = False,
    dask: Dask = None,
    settings: Settings = None,
    jobs: Jobs = None,
) -> None:
    """Turn a run's scans into slices; goes on where it was cut off (docs/scale.md).

    Broken scans are skipped, with exit code 6.
    """
    from twinvae.errors import ConfigError
    from twinvae.imaging import Shard

    if merge and (shard or dask):
        raise ConfigError("--merge: expected no --shard and no --dask beside it")
    share = None if shard is None else Shard.parse(shard)
    from twinvae.runs.stages import Preparing, raise_if_skipped, run_shard, run_stage

    opened = _opened(folder, overrides_of(settings))
    how = Preparing(strict=strict, merge=merge, dask=dask, jobs=jobs)
    if share is not None:
        done = run_shard(opened, share, how, force=force)
        _say_done(f"shard {shard}", folder, done=done)
        return
    with opened.alone():
        done = run_stage(opened, "prepare", force=force, how=how)
    _say_done("prepare", folder, done=done)
    raise_if_skipped(opened)


def stage_command(stage: str, about: str) -> Callable[..., None]:
    """The command of one stage: it reads the run's files and writes its own."""

    @example(f"twinvae {stage} runs/demo")
    def command(
        folder: RunFolder,
        force: Annotated[bool, typer.Option(help="Redo it even if nothing changed.")] = False,
        strict: Annotated[bool, typer.Option(help="A broken scan stops the stage.")] = False,
        settings: Settings = None,
        device: Device = None,
        threads: Threads = None,
        precision: Precision = None,
        jobs: Jobs = None,
        seed: Seed = None,
    ) -> None:
        overrides = overrides_of(settings, device, threads, precision, jobs, seed)
        _do_stage(folder, stage, overrides, force=force, strict=strict)

    command.__doc__ = about
    command.__name__ = stage
    return command


@example("twinvae calibrate runs/demo/bundle --healthy hospital/healthy -o mine")
def calibrate(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run, or a bundle or its name.",
            autocompletion=completing.bundle_names,
        ),
    ],
    healthy: Annotated[
        Path | None, typer.Option(help="Bundle: a site's own healthy scans, folder or table.")
    ] = None,
    mixed: Annotated[
        Path | None, typer.Option(help="Bundle: a site's unlabelled scans; no guarantee.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The new bundle; default: BUNDLE-SITE.")
    ] = None,
    site: Annotated[str, typer.Option(help="Name of the site; default: the folder's.")] = "",
    by: Annotated[str, typer.Option(help="Who calibrates; kept in bundle.json.")] = "",
    layout: Annotated[str, typer.Option(help="auto recognises the layout.")] = "auto",
    trust_grid: TrustGrid = False,
    force: Annotated[bool, typer.Option(help="Run: redo it even if nothing changed.")] = False,
    strict: Annotated[bool, typer.Option(help="A broken scan stops everything.")] = False,
    settings: Settings = None,
    device: Device = None,
    threads: Threads = None,
    precision: Precision = None,
    jobs: Jobs = None,
    seed: Seed = None,
) -> None:
    """Set a run's thresholds, or a bundle's on a site's own scans (docs/calibration.md)."""
    from twinvae.detection.shipped import bundle_path
    from twinvae.errors import ConfigError

    overrides = overrides_of(settings, device, threads, precision, jobs, seed)
    given, folder = folder, folder if folder.exists() else bundle_path(folder)
    is_bundle = (folder / "bundle.json").is_file()
    if is_bundle != (healthy is not None or mixed is not None) or (healthy and mixed):
        expected = "one of --healthy and --mixed" if is_bundle else "neither --healthy nor --mixed"
        what = "a bundle" if is_bundle else "a folder that is no bundle (the run's folder bundle/)"
        raise ConfigError(f"{folder}: expected {expected} for {what}")
    if not is_bundle:
        _do_stage(folder, "calibrate", overrides, force=force, strict=strict)
        return
    from twinvae.detection.recalibrate import Site, calibrate_on_site

    scans = healthy or mixed
    assert scans is not None
    where = Site(scans, "healthy" if healthy else "mixed", site, by, layout, trust_grid)
    name = site or scans.resolve().name
    target = out or given.resolve().with_name(f"{given.resolve().name}-{name}")
    origin = calibrate_on_site(folder, where, target, overrides=overrides, strict=strict)
    say(f"{target}: {origin['says']}")


@example("twinvae evaluate scores.tsv -o judged --score mine")
def evaluate(
    path: Annotated[
        Path, typer.Argument(help="Folder of a run, or a table of scores.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Table: folder for the results.")
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="Table: the score to report on; default: the first.",
            autocompletion=completing.table_scores,
        ),
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
        _do_stage(path, "evaluate", overrides, force=force, strict=strict)
        return
    from twinvae.runs.evaluate_table import evaluate_table

    if out is None:
        raise ConfigError(f"{path}: expected -o FOLDER for the results of a table, found none")
    found = evaluate_table(path, out, score=score, overrides=overrides)
    for warning in found.warnings:
        say(f"warning: {warning}")
    say(f"{found.score}: {found.sees} — {out / 'report.html'}")


@example("twinvae fuse T2w=runs/t2w FLAIR=runs/flair T1w=runs/t1w -o runs/all")
def fuse(
    given: Annotated[
        list[str],
        typer.Argument(help="CONTRAST=RUN, or CONTRAST=TABLE of scores.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for scores.tsv.")],
    score: Annotated[
        list[str] | None,
        typer.Option(help="Score to fuse, NAME or CONTRAST=NAME; a run's is what decides there."),
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Keep only scans that have every contrast.")
    ] = False,
) -> None:
    """Fuse several contrasts of the same patients into one table of scores (docs/fusion.md)."""
    from twinvae.runs.fuse import fuse_runs, named_paths

    places = {c: Path(path) for c, path in named_paths(given, "fuse").items()}
    found = fuse_runs(places, out, scores=score or (), complete=complete)
    for note in found.notes:
        say(f"warning: {note}")
    scans = ", ".join(f"{count} of {contrasts}" for contrasts, count in found.scans.items())
    say(f"{out / 'scores.tsv'}: scans {scans}")


@example("twinvae yardstick runs/demo")
def yardstick(
    folder: RunFolder,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same lesions.")] = 0,
) -> None:
    """Judge a run's scores without any tumour label: by lesions planted in healthy slices."""
    from twinvae.files import write_table
    from twinvae.runs.folder import Run
    from twinvae.runs.planted_auroc import planted_aurocs

    found = planted_aurocs(Run.open(folder), seed=seed)
    write_table(folder / "yardstick.tsv", found, float_format="%.4f")
    for _, row in found.iterrows():
        interval = f"({row['ci_low']:.3f} to {row['ci_high']:.3f})"
        typer.echo(f"{row['score']:36} {row['auroc']:.3f} {interval}")
    say(f"{folder / 'yardstick.tsv'}: {found['n_slices'].iloc[0]} lesions planted")


def _do_stage(
    folder: Path,
    stage: str,
    overrides: Mapping[str, Any],
    *,
    force: bool = False,
    strict: bool = False,
) -> None:
    """Open the run in ``folder``, keep the dotted ``overrides`` there, and do the stage."""
    from twinvae.runs.stages import run_stage

    opened = _opened(folder, overrides)
    with opened.alone():
        done = run_stage(opened, stage, force=force, strict=strict)
    _say_done(stage, folder, done=done)


def _opened(folder: Path, overrides: Mapping[str, Any]) -> Run:
    """The run in ``folder``, which from now on has the dotted ``overrides``."""
    from twinvae.config import load_config
    from twinvae.runs.folder import Run

    opened = Run.open(folder)
    return (
        Run.create(load_config(folder / "config.yaml", overrides), folder) if overrides else opened
    )


def _say_done(what: str, folder: Path, *, done: bool) -> None:
    say(f"{what}: {'done' if done else 'nothing changed'} in {folder}")
