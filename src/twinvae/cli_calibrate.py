"""The command calibrate: thresholds of a run, or of a bundle on a site's own scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinvae.cli_options import (
    Device,
    Jobs,
    Precision,
    Seed,
    Settings,
    Threads,
    TrustGrid,
    overrides_of,
)
from twinvae.cli_stage import do_stage
from twinvae.progress import say


def calibrate(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, or a bundle.")],
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
    from twinvae.errors import ConfigError

    overrides = overrides_of(settings, device, threads, precision, jobs, seed)
    is_bundle = (folder / "bundle.json").is_file()
    if is_bundle != (healthy is not None or mixed is not None) or (healthy and mixed):
        expected = "one of --healthy and --mixed" if is_bundle else "neither --healthy nor --mixed"
        what = "a bundle" if is_bundle else "a folder that is no bundle (the run's folder bundle/)"
        raise ConfigError(f"{folder}: expected {expected} for {what}")
    if not is_bundle:
        do_stage(folder, "calibrate", overrides, force=force, strict=strict)
        return
    from twinvae.site import Site, calibrate_on_site

    scans = healthy or mixed
    assert scans is not None
    where = Site(scans, "healthy" if healthy else "mixed", site, by, layout, trust_grid)
    name = site or scans.resolve().name
    target = out or folder.resolve().with_name(f"{folder.resolve().name}-{name}")
    origin = calibrate_on_site(folder, where, target, overrides=overrides, strict=strict)
    say(f"{target}: {origin['says']}")
