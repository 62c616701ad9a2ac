"""The commands that work through scans: prepare (whole, in shares, on a cluster) and check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twinvae.cli_options import Jobs, Overwrite, RunFolder, Settings, overrides_of
from twinvae.progress import say


def prepare(
    folder: RunFolder,
    force: Annotated[bool, typer.Option(help="Redo it even if nothing changed.")] = False,
    strict: Annotated[bool, typer.Option(help="A broken scan stops the stage.")] = False,
    shard: Annotated[
        str | None, typer.Option(help="Prepare only share i of n, as 3/8; then --merge.")
    ] = None,
    merge: Annotated[bool, typer.Option(help="Make slices of what all shards prepared.")] = False,
    dask: Annotated[
        str | None, typer.Option(help="Scheduler of a Dask cluster, as tcp://host:8786.")
    ] = None,
    settings: Settings = None,
    jobs: Jobs = None,
) -> None:
    """Turn a run's scans into slices; goes on where it was cut off (docs/scale.md).

    Broken scans are skipped, with exit code 6.
    """
    from twinvae.config import load_config
    from twinvae.errors import ConfigError
    from twinvae.imaging.shard import Shard

    if merge and (shard or dask):
        raise ConfigError("--merge: expected no --shard and no --dask beside it")
    share = None if shard is None else Shard.parse(shard)
    from twinvae.pipeline import Preparing, raise_if_skipped, run_shard, run_stage
    from twinvae.run import Run

    overrides = overrides_of(settings)
    opened = Run.open(folder)
    if overrides:
        opened = Run.create(load_config(folder / "config.yaml", overrides), folder)
    how = Preparing(strict=strict, merge=merge, dask=dask, jobs=jobs)
    if share is not None:
        done = run_shard(opened, share, how, force=force)
        say(f"shard {shard}: {'done' if done else 'nothing changed'} in {folder}")
        return
    with opened.alone():
        done = run_stage(opened, "prepare", force=force, how=how)
    say(f"prepare: {'done' if done else 'nothing changed'} in {folder}")
    raise_if_skipped(opened)


def check(
    manifest: Annotated[Path, typer.Argument(help="A manifest.tsv.", show_default=False)],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Table to write (TSV).")] = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
) -> None:
    """Look for scans that are broken, odd or there twice; prepares nothing.

    Flags are warnings; scans that cannot be read give exit code 6.
    """
    from twinvae.checking import check_scans

    table = check_scans(manifest, out, jobs=jobs, overwrite=overwrite)
    flagged = table[table["flags"] != ""]
    for _, row in flagged.iterrows():
        who = "  ".join(
            row[name] for name in ("source", "subject", "session", "split") if row[name]
        )
        typer.echo(f"{row['flags']:24}  {who}  {row['why']}")
    typer.echo(f"{len(table)} scans, {len(flagged)} flagged")
    _raise_if_unreadable(table)


def _raise_if_unreadable(table: Any) -> None:
    from twinvae.errors import PartialFailureError

    count = int(table["flags"].str.contains("unreadable").sum())
    if count:
        raise PartialFailureError(f"{count} of {len(table)} scans cannot be read, see above")
