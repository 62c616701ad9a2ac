"""The commands. No science here: each reads its arguments, calls one function, says what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twinvae import __version__, cli_calibrate, cli_evaluate, cli_scans
from twinvae.cli_help import NamesLayouts
from twinvae.cli_options import (
    Device,
    Jobs,
    Overwrite,
    Precision,
    Preset,
    RunFolder,
    Seed,
    Settings,
    Threads,
    TrustGrid,
    overrides_of,
)
from twinvae.cli_stage import do_stage
from twinvae.progress import say

app = typer.Typer(
    name="twinvae",
    help="Find tumours in brain MRI without tumour labels. Not for clinical use.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
config_app = typer.Typer(help="Look at presets and check configurations.", no_args_is_help=True)
scores_app = typer.Typer(help="What can be computed for a slice.", no_args_is_help=True)
models_app = typer.Typer(help="What can be trained.", no_args_is_help=True)
layouts_app = typer.Typer(help="How folders of scans may be laid out.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(scores_app, name="scores")
app.add_typer(models_app, name="models")
app.add_typer(layouts_app, name="layouts")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"twinvae {__version__}")
        raise typer.Exit


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write the cohort to.")],
    healthy: Annotated[int, typer.Option(min=1, help="Healthy subjects.")] = 90,
    mixed: Annotated[int, typer.Option(min=1, help="Subjects who may have a tumour.")] = 80,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same bytes.")] = 0,
    spacing_mm: Annotated[float, typer.Option(help="Voxel size in mm, 1 to 4.")] = 2.0,
    tumour_share: Annotated[float, typer.Option(help="Share of mixed subjects with one.")] = 0.7,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of FreeSurfer- or SynthSeg-style label maps.")
    ] = None,
    contrast: Annotated[str, typer.Option(help="T2w; with --labels also FLAIR or T1w.")] = "T2w",
    jobs: Jobs = None,
) -> None:
    """Generate a cohort of brains, healthy and with tumours, in BIDS layout.

    By default from the MNI152 template; with --labels from real anatomies, each by another scanner.
    """
    from twinvae.cohort.phantom import generate_cohort
    from twinvae.config import PhantomConfig, validated

    counts = {"healthy": healthy, "mixed": mixed, "seed": seed}
    look = {"spacing_mm": spacing_mm, "tumour_share": tumour_share, "contrast": contrast}
    values: dict[str, Any] = counts | look | {"labels": labels}
    options = validated(PhantomConfig, values, "phantom")
    generate_cohort(out, options, jobs=jobs)
    say(f"wrote {healthy} healthy and {mixed} mixed subjects to {out}")


@app.command(cls=NamesLayouts)
def index(
    paths: Annotated[list[Path], typer.Argument(help="Folders of scans, or CSV/TSV tables.")],
    role: Annotated[str, typer.Option(help="healthy or mixed.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The manifest.")] = Path("manifest.tsv"),
    layout: Annotated[str, typer.Option(help="auto recognises the layout.")] = "auto",
    contrast: Annotated[str, typer.Option(help="T2w, T1w, FLAIR, …")] = "T2w",
    source: Annotated[str | None, typer.Option(help="Name of the source in all tables.")] = None,
    series: Annotated[
        str | None, typer.Option(help="DICOM: series of this description or UID, as '*t2*tra*'.")
    ] = None,
    trust_grid: TrustGrid = False,
    append: Annotated[bool, typer.Option(help="Add to an existing manifest.")] = False,
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Then look for odd scans.")] = False,
) -> None:
    """List scans in a manifest, split by subject."""
    from twinvae.config import SourceConfig, SplitConfig, validated
    from twinvae.outputs import check_new_file
    from twinvae.pipeline import write_index

    shared: dict[str, Any] = {"role": role, "layout": layout, "source": source, "series": series}
    shared["trust_grid"] = trust_grid
    sources = [validated(SourceConfig, {"path": p, **shared}, "index") for p in paths]
    flags = out.with_suffix(".qc.tsv")
    if check:
        check_new_file(flags, paths, overwrite=overwrite)
    table = write_index(
        sources, contrast, SplitConfig(seed=seed), out, append=append, overwrite=overwrite
    )
    say(f"{out}: {len(table)} scans of {table['subject'].nunique()} subjects")
    if check:
        cli_scans.check(out, flags, overwrite=overwrite)


@app.command()
def run(
    config: Preset,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: runs/NAME.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
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
    from twinvae.pipeline import run_stages
    from twinvae.run import Run

    resolved = load_config(config, overrides_of(settings, device, threads, precision, jobs, seed))
    folder = out or Path("runs") / resolved.name
    run_stages(Run.create(resolved, folder), until=until, strict=strict)


@app.command()
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
    from twinvae.crossval import cross_validate

    resolved = load_config(config, overrides_of(settings, device, threads, precision, jobs, seed))
    cross_validate(resolved, out or Path("runs") / resolved.name, folds, strict=strict)


@app.command()
def study(
    path: Annotated[Path, typer.Argument(help="The study's YAML file.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Default: studies/NAME.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells at once; default: cores.")] = None,
) -> None:
    """Compare models, scores and seeds on sets of scans; goes on where it was cut off."""
    from twinvae.study import run_study

    run_study(path, out, jobs=jobs)


@app.command()
def yardstick(
    folder: RunFolder,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same lesions.")] = 0,
) -> None:
    """Judge a run's scores without any tumour label: by lesions planted in healthy slices."""
    from twinvae.files import write_table
    from twinvae.run import Run
    from twinvae.yardstick import planted_aurocs

    found = planted_aurocs(Run.open(folder), seed=seed)
    write_table(folder / "yardstick.tsv", found, float_format="%.4f")
    for _, row in found.iterrows():
        interval = f"({row['ci_low']:.3f} to {row['ci_high']:.3f})"
        typer.echo(f"{row['score']:36} {row['auroc']:.3f} {interval}")
    say(f"{folder / 'yardstick.tsv'}: {found['n_slices'].iloc[0]} lesions planted")


def _stage_command(stage: str, about: str) -> None:
    """Add the command of one stage: it reads the run's files and writes its own."""

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
        do_stage(folder, stage, overrides, force=force, strict=strict)

    command.__doc__ = about
    app.command(stage)(command)


app.command()(cli_scans.prepare)
app.command()(cli_scans.check)
_stage_command("train", "Train a run's two models; goes on where it was cut off.")
_stage_command("score", "Compute every score for every slice of a run.")
app.command()(cli_calibrate.calibrate)
app.command()(cli_evaluate.evaluate)
_stage_command("report", "Draw a run's figures and write its report.")


@app.command()
def detect(
    bundle: Annotated[Path, typer.Argument(help="Bundle of a run (its folder bundle/).")],
    scans: Annotated[list[Path], typer.Argument(help="NIfTI, .mha, .nrrd, or DICOM folders.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    brain_mask: Annotated[
        list[Path] | None, typer.Option(help="Brain mask of each scan, in the scans' order.")
    ] = None,
    trust_grid: TrustGrid = False,
    maps: Annotated[
        str | None, typer.Option(help="Further maps, NAME[,NAME]; see twinvae scores maps.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="A broken scan stops everything.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Judge scans out of domain too; error rates are off.")
    ] = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Give new scans a verdict, a per-slice table, maps and a page to look at.

    Research software, not for clinical use.
    """
    from twinvae.detect import detect_scans
    from twinvae.judgement import NO_VERDICT

    words = {
        "abnormal": "ABNORMAL",
        "healthy": "no abnormality found",
        NO_VERDICT: "NO VERDICT, out of domain (--force gives one all the same)",
    }
    found = detect_scans(
        bundle,
        scans,
        out,
        brain_masks=brain_mask,
        trust_grid=trust_grid,
        maps=[name.strip() for name in maps.split(",")] if maps else (),
        strict=strict,
        force=force,
        device=device,
        threads=threads,
    )
    for result in found:
        say(f"{result.name}: {words[result.judgement.word]} — {result.folder / 'report.html'}")


@config_app.command("list")
def config_list() -> None:
    """Name the presets."""
    from twinvae.config import load_config, preset_names

    for name in preset_names():
        typer.echo(f"{name:12} {load_config(name).about}")


@config_app.command("show")
def config_show(preset: Preset) -> None:
    """Print a preset or file with every setting it resolves to."""
    import yaml

    from twinvae.config import dump_config, load_config

    typer.echo(yaml.safe_dump(dump_config(load_config(preset)), sort_keys=False), nl=False)


@config_app.command("fields")
def config_fields() -> None:
    """Explain every setting: its type, default and meaning."""
    from twinvae.config import documented_fields

    for line in documented_fields():
        typer.echo(line)


@app.command()
def describe(preset: Preset) -> None:
    """Show both networks: layers, output shapes, parameter counts."""
    from twinvae.config import load_config
    from twinvae.models import build_model, layer_table

    networks = load_config(preset).models
    for title, options in (("VAE-H (healthy)", networks.healthy), ("VAE (mixed)", networks.mixed)):
        model = build_model(options, seed=0)
        typer.echo(f"{title}: {options.kind}, {options.activation}, latent {options.latent_size}")
        for name, what, shape, count in layer_table(model):
            typer.echo(f"  {name:16} {what:30} {shape:>12} {count:>12,}")
        total = sum(p.numel() for p in model.parameters())
        typer.echo(f"  {'total':16} {'':30} {'':>12} {total:>12,}")


@layouts_app.command("list")
def layouts_list() -> None:
    """Name every layout, with what it looks like."""
    from twinvae.cohort import LAYOUTS

    for name, layout in LAYOUTS.items():
        typer.echo(f"{name:24} {layout.expects}")


@scores_app.command("list")
def scores_list() -> None:
    """Name every score, with one line and its source."""
    from twinvae.scoring import SCORES
    from twinvae.scoring.context import CONTEXT_SUFFIX

    for score in SCORES.values():
        typer.echo(f"{score.name:28} {score.summary} [{score.source}]")
    typer.echo(f"{'NAME' + CONTEXT_SUFFIX:28} any of these, among the scan's other slices")


@scores_app.command("maps")
def scores_maps() -> None:
    """Name every map of a slice, with one line and its source."""
    from twinvae.scoring import MAPS

    for entry in MAPS.values():
        typer.echo(f"{entry.name:28} {entry.summary} [{entry.source}]")


@models_app.command("list")
def models_list() -> None:
    """Name every model, with one line and its source."""
    from twinvae.models import all_models

    for name, model in all_models().items():
        typer.echo(f"{name:28} {(model.__doc__ or '').splitlines()[0]} [{model.source}]")


@models_app.command("show")
def models_show(kind: Annotated[str, typer.Argument(help="As models list names it.")]) -> None:
    """Explain one model: its source, its encoding, and the options that only it has."""
    from twinvae.models import model_lines

    for line in model_lines(kind):
        typer.echo(line)
