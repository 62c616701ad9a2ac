"""Commands about scans: generate, list, check them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twinvae.commands import completing
from twinvae.commands.options import Jobs, Overwrite, TrustGrid, example
from twinvae.progress import say


@example("twinvae phantom cohort --healthy 40 --mixed 30")
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
    contrast: Annotated[
        str, typer.Option(help="T2w; with --labels also FLAIR, T1w, random.")
    ] = "T2w",
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


@example("twinvae index hospital/healthy --role healthy -o scans.tsv")
def index(
    paths: Annotated[list[Path], typer.Argument(help="Folders of scans, or CSV/TSV tables.")],
    role: Annotated[str, typer.Option(help="healthy or mixed.", autocompletion=completing.roles)],
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
    from twinvae.runs.stages import write_index

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
        _check(out, flags, overwrite=overwrite)


@example("twinvae check scans.tsv -o flags.tsv")
def check(
    manifest: Annotated[Path, typer.Argument(help="A manifest.tsv.", show_default=False)],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Table to write (TSV).")] = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
) -> None:
    """Look for scans that are broken, odd or there twice; prepares nothing.

    Flags are warnings; scans that cannot be read give exit code 6.
    """
    _check(manifest, out, jobs=jobs, overwrite=overwrite)


def _check(
    manifest: Path, out: Path | None, *, jobs: int | None = None, overwrite: bool = False
) -> None:
    from twinvae.errors import PartialFailureError
    from twinvae.runs.checks import check_scans

    table = check_scans(manifest, out, jobs=jobs, overwrite=overwrite)
    flagged = table[table["flags"] != ""]
    for _, row in flagged.iterrows():
        who = "  ".join(
            row[name] for name in ("source", "subject", "session", "split") if row[name]
        )
        typer.echo(f"{row['flags']:24}  {who}  {row['why']}")
    typer.echo(f"{len(table)} scans, {len(flagged)} flagged")
    unreadable = int(table["flags"].str.contains("unreadable").sum())
    if unreadable:
        raise PartialFailureError(f"{unreadable} of {len(table)} scans cannot be read, see above")
