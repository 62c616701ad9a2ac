"""The command that judges scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinvae.commands import completing
from twinvae.commands.options import Device, Threads, TrustGrid, example
from twinvae.errors import ConfigError
from twinvae.progress import say

if TYPE_CHECKING:
    from twinvae.detection.detect import Detection
    from twinvae.detection.write_patient import PatientDetection
    from twinvae.imaging import Stripping

_METHODS: dict[str, Stripping] = {"hd_bet": "hd_bet", "template": "template"}


@example("twinvae detect t2w sub-01_T2w.nii.gz -o results")
def detect(
    bundle: Annotated[
        Path,
        typer.Argument(
            help="Folder of a bundle, or a name of twinvae bundles list.",
            autocompletion=completing.bundle_names,
        ),
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
        bool,
        typer.Option(
            "--skull-strip",
            help="Whole heads: find the brain, by HD-BET if it is installed, else by a template.",
        ),
    ] = False,
    skull_strip_method: Annotated[
        str | None, typer.Option(help="How: hd_bet or template (implies --skull-strip).")
    ] = None,
    trust_grid: TrustGrid = False,
    maps: Annotated[
        str | None, typer.Option(help="Further maps, NAME[,NAME]; see twinvae scores maps.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="A broken scan stops everything.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Judge scans out of domain too; error rates are off.")
    ] = False,
    dicom: Annotated[
        bool | None,
        typer.Option("--dicom/--no-dicom", help="DICOM objects of DICOM scans; default: if able."),
    ] = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Give new scans a verdict, a per-slice table, maps and a page to look at.

    A composite bundle gives each patient one verdict (docs/fusion.md). Not for clinical use.
    """
    from twinvae.detection.detect import detect_scans
    from twinvae.detection.detect_patients import detect_patients
    from twinvae.detection.shipped import is_composite

    found = (detect_patients if is_composite(bundle) else detect_scans)(
        bundle,
        scans,
        out,
        brain_masks=brain_mask,
        trust_grid=trust_grid,
        skull_strip=_stripping(skull_strip_method) or skull_strip,
        maps=[name.strip() for name in maps.split(",")] if maps else (),
        strict=strict,
        force=force,
        dicom=dicom,
        device=device,
        threads=threads,
    )
    for result in found:
        _tell(result)


def _tell(result: Detection | PatientDetection) -> None:
    """Say the verdict and where its page is."""
    from twinvae.detection.verdict import NO_VERDICT

    words = {
        "abnormal": "ABNORMAL",
        "healthy": "no abnormality found",
        NO_VERDICT: "NO VERDICT, out of domain (--force gives one all the same)",
    }
    contrasts = getattr(result, "contrasts", ())
    said = words[result.judgement.word] + (f" ({', '.join(contrasts)})" if contrasts else "")
    say(f"{result.name}: {said} — {result.folder / 'report.html'}")


def _stripping(method: str | None) -> Stripping | None:
    if method is None:
        return None
    if method not in _METHODS:
        raise ConfigError(f"--skull-strip-method: expected hd_bet or template, found {method!r}")
    return _METHODS[method]
