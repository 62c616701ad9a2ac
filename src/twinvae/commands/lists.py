"""Commands that look things up: presets, settings, networks, models, scores, layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinvae.commands import completing
from twinvae.commands.options import Preset, example


@example("twinvae describe paper")
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


@example("twinvae config list")
def config_list() -> None:
    """Name the presets."""
    from twinvae.config import load_config, preset_names

    for name in preset_names():
        typer.echo(f"{name:12} {load_config(name).about}")


@example("twinvae config show paper")
def config_show(preset: Preset) -> None:
    """Print a preset or file with every setting it resolves to."""
    import yaml

    from twinvae.config import dump_config, load_config

    typer.echo(yaml.safe_dump(dump_config(load_config(preset)), sort_keys=False), nl=False)


@example("twinvae config fields")
def config_fields() -> None:
    """Explain every setting: its type, default and meaning."""
    from twinvae.config import RunConfig, documented_fields

    for line in documented_fields(RunConfig):
        typer.echo(line)


@example("twinvae bundles list")
def bundles_list() -> None:
    """Name the bundles that come with the package, for `twinvae detect NAME SCAN`."""
    from twinvae.config import load_config
    from twinvae.detection.shipped import COMPOSITE, shipped_bundles, shipped_composites
    from twinvae.files import folder_bytes, read_json

    for name, folder in shipped_bundles().items():
        config = load_config(folder / "config.yaml")
        size = folder_bytes(folder) / 1e6
        typer.echo(f"{name:10} {config.contrast:6} {size:4.1f} MB  {config.about}")
    for name, folder in shipped_composites().items():
        size, members = folder_bytes(folder) / 1e6, read_json(folder / COMPOSITE)["members"]
        about = f"One verdict from any of {', '.join(members)}."
        typer.echo(f"{name:10} {'any':6} {size:4.1f} MB  {about}")


@example("twinvae bundles show t2w")
def bundles_show(
    name: Annotated[
        str,
        typer.Argument(
            help="A name of twinvae bundles list.", autocompletion=completing.bundle_names
        ),
    ],
) -> None:
    """Print a bundle's model card: what it was made of, how well it does, where it fails.

    Then how many scans its models were trained on, as far as the bundle knows.
    """
    from twinvae.detection.seen import Seen
    from twinvae.detection.shipped import CARD, bundle_path, is_composite

    folder = bundle_path(name)
    typer.echo((folder / CARD).read_text(encoding="utf-8"), nl=False)
    if not is_composite(name):  # its members say it
        typer.echo(f"\n{Seen.read(folder).says()}")


@example("twinvae bundles pack runs/t2w --card card.md -o bundles/t2w")
def bundles_pack(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, or of twinvae fuse.")],
    card: Annotated[Path, typer.Option(help="Its model card (docs/bundles.md).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the bundle.")],
    member: Annotated[
        list[str] | None,
        typer.Option(help="Fused runs: CONTRAST=NAME of the run's bundle in the package."),
    ] = None,
) -> None:
    """Pack a run's bundle with a model card, small and without paths, for others to use.

    Of fused runs, the composite bundle for several contrasts of a patient (docs/fusion.md).
    """
    from twinvae.errors import ConfigError
    from twinvae.runs.folder import Run
    from twinvae.runs.fuse import FUSION, named_paths
    from twinvae.runs.pack import ship_bundle, ship_composite

    if (folder / FUSION).is_file():
        ship_composite(folder, named_paths(member or (), "member"), card, out)
    elif member:
        raise ConfigError(f"{folder}: expected no --member, for it is no folder of fused runs")
    else:
        ship_bundle(Run.open(folder), card, out)


@example("twinvae layouts list")
def layouts_list() -> None:
    """Name every layout, with what it looks like."""
    from twinvae.cohort import LAYOUTS

    for name, layout in LAYOUTS.items():
        typer.echo(f"{name:24} {layout.expects}")


@example("twinvae scores list")
def scores_list() -> None:
    """Name every score, with one line and its source."""
    from twinvae.scoring import SCORES
    from twinvae.scoring.table import CONTEXT_SUFFIX

    for score in SCORES.values():
        typer.echo(f"{score.name:28} {score.summary} [{score.source}]")
    typer.echo(f"{'NAME' + CONTEXT_SUFFIX:28} any of these, among the scan's other slices")


@example("twinvae scores maps")
def scores_maps() -> None:
    """Name every map of a slice, with one line and its source."""
    from twinvae.scoring import MAPS

    for entry in MAPS.values():
        typer.echo(f"{entry.name:28} {entry.summary} [{entry.source}]")


@example("twinvae models list")
def models_list() -> None:
    """Name every model, with one line and its source."""
    from twinvae.models import all_models

    for name, model in all_models().items():
        typer.echo(f"{name:28} {(model.__doc__ or '').splitlines()[0]} [{model.source}]")


@example("twinvae models show vae")
def models_show(kind: Annotated[str, typer.Argument(help="As models list names it.")]) -> None:
    """Explain one model: its source, its encoding, and the options that only it has."""
    from twinvae.models import model_lines

    for line in model_lines(kind):
        typer.echo(line)
