"""The command that judges scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinvae.commands.options import Device, Threads, TrustGrid, example
from twinvae.progress import say


@example("twinvae detect t2w sub-01_T2w.nii.gz -o results")
def detect(
    bundle: Annotated[
        Path, typer.Argument(help="Folder of a bundle, or a name of twinvae bundles list.")
    ],
    scans: Annotated[
        list[Path],
        typer.Argument(
            help="NIfTI, .mha, .nrrd, or DICOM folders; with a composite bundle also "
            "CONTRAST=FILE, where the name does not tell."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    brain_mask: Annotated[
        list[Path] | None, typer.Option(help="Brain mask of each scan, in the scans' order.")
    ] = None,
    skull_strip: Annotated[
        bool, typer.Option("--skull-strip", help="Whole heads: HD-BET finds the brain.")
    ] = False,
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

    A composite bundle gives each patient one verdict (docs/fusion.md). Not for clinical use.
    """
    from twinvae.detection.detect import detect_scans
    from twinvae.detection.detect_patients import PatientDetection, detect_patients
    from twinvae.detection.shipped import is_composite
    from twinvae.detection.verdict import NO_VERDICT

    words = {
        "abnormal": "ABNORMAL",
        "healthy": "no abnormality found",
        NO_VERDICT: "NO VERDICT, out of domain (--force gives one all the same)",
    }
    found = (detect_patients if is_composite(bundle) else detect_scans)(
        bundle,
        scans,
        out,
        brain_masks=brain_mask,
        trust_grid=trust_grid,
        skull_strip=skull_strip,
        maps=[name.strip() for name in maps.split(",")] if maps else (),
        strict=strict,
        force=force,
        device=device,
        threads=threads,
    )
    for result in found:
        by = f" ({', '.join(result.contrasts)})" if isinstance(result, PatientDetection) else ""
        said = f"{result.name}: {words[result.judgement.word]}{by}"
        say(f"{said} — {result.folder / 'report.html'}")
