"""The command that judges scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from twinvae.commands import completing
from twinvae.commands.options import Dask, Device, Threads, TrustGrid, example
from twinvae.errors import ConfigError, NoVerdictError, some_of
from twinvae.files import json_text
from twinvae.progress import say

if TYPE_CHECKING:
    from twinvae.detection.batch import Found, Report
    from twinvae.detection.plan import Plan
    from twinvae.imaging import Stripping

_METHODS: dict[str, Stripping] = {"hd_bet": "hd_bet", "template": "template"}
_WORDS = {"abnormal": "ABNORMAL", "healthy": "no abnormality found"}

Bundle = Annotated[
    Path,
    typer.Argument(
        help="Folder of a bundle, or a name of twinvae bundles list.",
        autocompletion=completing.bundle_names,
    ),
]
Given = Annotated[
    list[Path],
    typer.Argument(
        help="NIfTI, .mha, .nrrd, DICOM; folders of them, BIDS and other data sets, DICOM studies, "
        "tables: of these the bundle's contrast. Composite: also CONTRAST=FILE."
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")]
Participants = Annotated[list[str] | None, typer.Option(help="Only this subject; repeatable.")]
Sessions = Annotated[list[str] | None, typer.Option(help="Only this session; repeatable.")]
BrainMasks = Annotated[
    list[Path] | None, typer.Option(help="Brain mask of each scan, in the scans' order.")
]
SkullStrip = Annotated[
    bool,
    typer.Option(
        "--skull-strip",
        help="Heads without a mask: find the brain, by HD-BET if installed, else by a template.",
    ),
]
Method = Annotated[
    str | None, typer.Option(help="How: hd_bet or template (implies --skull-strip).")
]
Maps = Annotated[
    str | None, typer.Option(help="Further maps, NAME[,NAME]; see twinvae scores maps.")
]
Strict = Annotated[bool, typer.Option(help="A broken scan stops everything.")]
Force = Annotated[
    bool, typer.Option("--force", help="Judge scans out of domain too; error rates are off.")
]
Again = Annotated[bool, typer.Option("--again", help="Keep no result of an earlier call.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be read; write nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print all results as JSON.")]
Dicom = Annotated[
    bool | None,
    typer.Option("--dicom/--no-dicom", help="DICOM objects of DICOM scans; default: if able."),
]
OutputLayout = Annotated[
    str,
    typer.Option(
        help="auto: derivatives of a BIDS data set, else folders; or bids, or folders.",
        autocompletion=completing.output_layouts,
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, each with its own memory; default: as many as pay."),
]


@example("twinvae detect t2w sub-01_T2w.nii.gz -o results")
def detect(
    bundle: Bundle,
    scans: Given,
    out: Out,
    participant_label: Participants = None,
    session_label: Sessions = None,
    brain_mask: BrainMasks = None,
    skull_strip: SkullStrip = False,
    skull_strip_method: Method = None,
    trust_grid: TrustGrid = False,
    maps: Maps = None,
    strict: Strict = False,
    force: Force = False,
    again: Again = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    dicom: Dicom = None,
    output_layout: OutputLayout = "auto",
    device: Device = None,
    threads: Threads = None,
    jobs: Processes = None,
    dask: Dask = None,
) -> None:
    """Give new scans a verdict, a per-slice table, maps and a page to look at.

    Of a BIDS data set these are BIDS derivatives (docs/bids.md).

    A second call keeps the results that are there. A composite bundle gives each patient one
    verdict (docs/fusion.md). Not for clinical use.

    Exit code 6: scans were skipped; 8: none were, but some are out of domain, without a verdict.
    """
    from twinvae.detection.options import DetectOptions, Layout
    from twinvae.detection.plan import plan_detection
    from twinvae.detection.shipped import is_composite
    from twinvae.parallel import Device as KnownDevice

    options = DetectOptions(
        brain_masks=brain_mask or (),
        participants=participant_label or (),
        sessions=session_label or (),
        trust_grid=trust_grid,
        skull_strip=_stripping(skull_strip_method) or skull_strip,
        maps=[name.strip() for name in maps.split(",")] if maps else (),
        strict=strict,
        force=force,
        again=again,
        dicom=dicom,
        layout=cast(Layout, output_layout),  # this and the device DetectOptions checks
        device=cast(KnownDevice | None, device),
        threads=threads,
        jobs=jobs,
        dask=dask,
    )
    plan = plan_detection(bundle, scans, out, options, together=is_composite(bundle))
    judge_as_planned(plan, dry_run=dry_run, as_json=as_json)


def judge_as_planned(plan: Plan, *, dry_run: bool = False, as_json: bool = False) -> None:
    """Do what ``plan`` says, or show it, and say what was found.

    Raises ``PartialFailureError``, ``DataError`` and ``NoVerdictError`` as the exit codes say.
    """
    from twinvae.detection.detect import judge_scans
    from twinvae.detection.detect_patients import judge_patients
    from twinvae.detection.shipped import is_composite

    if dry_run:
        _show(plan, as_json=as_json)
        return
    judge = judge_patients if is_composite(plan.bundle) else judge_scans
    report: Report[Any] = judge(plan)
    for found in report.found:
        _tell(found, plan.places[found.name].path("report.html"))
    if as_json:
        typer.echo(json_text(report.to_json()))
    report.require_all()
    _require_verdicts(report)


def _show(plan: Plan, *, as_json: bool) -> None:
    """What would be done, on standard output."""
    plan.check()
    for note in plan.notes:
        say(note)
    rows = plan.rows()
    if as_json:
        typer.echo(json_text({"bundle": str(plan.bundle), "scans": rows}))
        return
    names = [name for name in rows[0] if name != "bundle" and any(row[name] for row in rows)]
    widths = [max(len(name), *(len(row[name]) for row in rows)) for name in names]
    for cells in (names, *([row[name] for name in names] for row in rows)):
        line = "  ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True))
        typer.echo(line.rstrip())
    kept = sum(task.kept for task in plan.tasks)
    say(
        f"{plan.scans} scans, {len(plan.tasks)} results in {plan.out}, {kept} of them kept; bundle "
        f"{plan.bundle}; nothing was judged or written"
    )


def _tell(found: Any, page: Path) -> None:
    """Say the verdict and where its page is."""
    word = found.judgement.word
    said = _WORDS.get(word, "NO VERDICT, out of domain (--force gives one all the same)")
    contrasts = getattr(found, "contrasts", ())
    said += f" ({', '.join(contrasts)})" if contrasts else ""
    say(f"{found.name}: {said} — {page}")


def _require_verdicts(report: Report[Found]) -> None:
    """Raise ``NoVerdictError`` when some scans got none."""
    none = [one.name for one in report.found if one.verdict is None]
    if none:
        raise NoVerdictError(
            f"{len(none)} of {len(report.found)} got no verdict, out of domain: "
            f"{some_of(none)}; --force judges them all the same"
        )


def _stripping(method: str | None) -> Stripping | None:
    if method is None:
        return None
    if method not in _METHODS:
        raise ConfigError(f"--skull-strip-method: expected hd_bet or template, found {method!r}")
    return _METHODS[method]
