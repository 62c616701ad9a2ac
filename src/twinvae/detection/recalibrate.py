"""A bundle calibrated anew on a site's own scans: same models and recipe, other thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.markup import escape

from twinvae.cohort import index_sources
from twinvae.cohort.told_contrast import other_contrast
from twinvae.config import RunConfig, SourceConfig, SplitConfig, dump_config, load_config
from twinvae.decision import calibrate, transfer
from twinvae.decision.domain import domain_of, scan_facts
from twinvae.detection.bundle import Bundle, copy_files, read_bundle, seal
from twinvae.detection.seen import Seen
from twinvae.detection.shipped import bundle_path
from twinvae.errors import ConfigError, DataError, PartialFailureError, reason_of
from twinvae.files import write_json, write_yaml
from twinvae.imaging import FittedRecipe, PreparedScan, ScanFiles, prepare_scan
from twinvae.outputs import check_replaceable, replaced
from twinvae.parallel import DIED, ways
from twinvae.progress import console, progress_bar
from twinvae.scoring import moved, require_fitted, score_slices, select_scores
from twinvae.training import Compute
from twinvae.vocabulary import Role

_MAY_CHANGE: dict[Role, tuple[str, ...]] = {
    "healthy": ("decision", "compute"),
    "mixed": ("compute",),  # the bundle's own thresholds are moved, whatever rule set them
}


@dataclass(frozen=True)
class Site:
    """Where a site's scans are, and who calibrates."""

    scans: Path
    """Folder or table, in one of the layouts."""
    role: Role
    """`healthy`: everybody is; `mixed`: unlabelled."""
    name: str = ""
    """Of the site; by default the folder's."""
    by: str = ""
    """Who calibrates."""
    layout: str = "auto"
    trust_grid: bool = False
    """Masks of the scan's shape and voxel size lie on its grid, whatever their headers say."""


@dataclass(frozen=True)
class _Measured:
    """What calibration needs of the site's scans."""

    scores: pd.DataFrame
    """One row a slice, as a scores table, with the column session."""
    facts: list[dict[str, float]]
    """Of each scan, for the out-of-domain check."""
    subjects: list[str]
    """Of each scan."""


@dataclass(frozen=True)
class _Job:
    """One scan, and the bundle's recipe and contrast."""

    scan: ScanFiles
    recipe: FittedRecipe
    contrast: str


def calibrate_on_site(
    folder: Path,
    site: Site,
    out: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> dict[str, Any]:
    """Calibrate the bundle ``folder`` on ``site`` and write it as the bundle ``out``.

    Healthy scans give thresholds by ``decision.rule`` as a run's own do; unlabelled ones move the
    bundle's by ``decision.transfer``. Returns what bundle.json says about it. A scan that cannot be
    used, or that the models were trained on, is reported and skipped, with ``PartialFailureError``
    at the end; with ``strict`` at once. Raises ``CalibrationError`` when the scans are too few,
    ``ConfigError`` for ``overrides`` other than of ``compute`` and, with healthy scans,
    ``decision``, and ``OutputError`` when ``out`` holds anything but a bundle.
    """
    folder, out = bundle_path(folder), Path(out)
    _check(site, overrides or {})
    check_replaceable(out, "bundle", inputs=[folder, site.scans])
    bundle = read_bundle(folder)
    config = load_config(folder / "config.yaml", dict(overrides or {}))
    reasons: list[str] = []
    measured = _measure(bundle, config, _scans(site, config), reasons, strict=strict)
    origin = _origin(site, measured)
    if site.role == "healthy":
        calibration = calibrate(measured.scores, config.decision)
    else:
        calibration = transfer(bundle.calibration, measured.scores)
    done = {**origin, "by": site.by, "when": datetime.now(UTC).date().isoformat()}
    with replaced(out, "bundle") as room:
        copy_files(folder, bundle, room)
        write_json(room / "calibration.json", {**calibration, "origin": origin})
        write_json(room / "domain.json", domain_of(measured.facts, measured.subjects))
        write_yaml(room / "config.yaml", dump_config(config))
        history = [*bundle.about.get("calibrated", []), done]
        seal(room, {"calibrated": history})
    if reasons:
        listed = "\n  ".join(reasons)
        raise PartialFailureError(
            f"{out} was written without {len(reasons)} scans that were skipped:\n  {listed}"
        )
    return done


def _check(site: Site, overrides: Mapping[str, Any]) -> None:
    allowed = _MAY_CHANGE[site.role]
    wrong = [key for key in overrides if key.partition(".")[0] not in allowed]
    if wrong:
        raise ConfigError(
            f"{wrong[0]}: expected a setting of {' or '.join(allowed)} with {site.role} scans"
        )


def _scans(site: Site, config: RunConfig) -> list[ScanFiles]:
    source = SourceConfig(
        path=site.scans,
        role=site.role,
        layout=site.layout,
        source=site.name or None,
        trust_grid=site.trust_grid,
    )
    table = index_sources([source], config.contrast, SplitConfig())
    return [ScanFiles.from_row(row) for _, row in table.assign(split="val").iterrows()]


def _measure(
    bundle: Bundle,
    config: RunConfig,
    scans: list[ScanFiles],
    reasons: list[str],
    *,
    strict: bool,
) -> _Measured:
    """Prepare and score ``scans``; why some cannot be is added to ``reasons``."""
    compute = Compute.resolve(config.compute)
    bundle.models.to(compute.device)
    calibrated = bundle.calibration["scores"]
    chosen = select_scores(config.scoring.scores, bundle.models)
    scores = [score for score in chosen if score.name in calibrated]
    require_fitted(scores, bundle.fitted, "bundle")
    fitted = moved(bundle.fitted, compute.device)
    found: dict[ScanFiles, tuple[pd.DataFrame, dict[str, float]]] = {}
    jobs = [_Job(scan, bundle.recipe, config.contrast) for scan in scans]
    outcomes = ways(config.compute.jobs)(_prepared, jobs, _lost)
    with progress_bar("calibrate", len(scans)) as bar, closing(outcomes):
        for job, prepared in outcomes:
            bar.note(job.scan.subject)
            bar.advance()
            refused = prepared if isinstance(prepared, str) else _seen(prepared, bundle.seen)
            if isinstance(prepared, str) or refused:
                _skip(refused, reasons, strict=strict)
                continue
            rows = np.arange(len(prepared.index))
            try:
                table = score_slices(
                    prepared, rows, bundle.models, scores, config.scoring, compute, fitted=fitted
                )
                facts = scan_facts(prepared.images, prepared.brain, prepared.statistics)
            except Exception as error:  # as below
                _skip(reason_of(error, job.scan.image), reasons, strict=strict)
                continue
            found[job.scan] = table.assign(session=job.scan.session), facts
    if not found:
        raise DataError("none of the site's scans can be used:\n  " + "\n  ".join(reasons[:5]))
    kept = [scan for scan in scans if scan in found]  # they finish in any order
    return _Measured(
        pd.concat([found[scan][0] for scan in kept], ignore_index=True),
        [found[scan][1] for scan in kept],
        [scan.subject for scan in kept],
    )


def _skip(reason: str, reasons: list[str], *, strict: bool) -> None:
    """Report a scan that cannot be used, and note why."""
    if strict:
        raise DataError(reason)
    reasons.append(reason)
    console.print(f"[red]skipped[/] {escape(reason)}", soft_wrap=True)


def _lost(job: _Job) -> PreparedScan | str:
    return f"{job.scan.image}: {DIED}"


def _prepared(job: _Job) -> PreparedScan | str:
    """The prepared scan, or why there is none."""
    other = other_contrast(job.scan.image, job.scan.contrast, job.contrast)
    if other:
        return (
            f"{job.scan.image}: {other}; if its contrast is {job.contrast} all the same, say so in "
            f"the column contrast of a table"
        )
    try:
        return prepare_scan(job.scan, job.recipe)
    except Exception as error:  # one odd scan must not cost the others; the reason is reported
        return reason_of(error, job.scan.image)


def _seen(prepared: PreparedScan, seen: Seen) -> str:
    """Why the scan may set no threshold: models err less on what they were trained on."""
    scan = prepared.files
    expected = f"{scan.image}: expected a scan of somebody the models were not trained on, found"
    if seen.trained_on(str(prepared.facts["content"])):
        return f"{expected} the voxels of a training scan"
    if seen.trained_on_subject(scan.source, scan.subject):
        return (
            f"{expected} subject {scan.subject} of source {scan.source}, who is called like one "
            f"they were; for another person give the site another name (--site)"
        )
    return ""


def _origin(site: Site, measured: _Measured) -> dict[str, Any]:
    """The scans behind the thresholds; no name of a subject, since bundles are passed on."""
    name = site.name or Path(site.scans).resolve().name
    scans, subjects = len(measured.facts), len(set(measured.subjects))
    of = f"{scans} {{}} scans of {subjects} subjects of {name}"
    says = (
        f"Thresholds were set on {of.format('healthy')}."
        if site.role == "healthy"
        else f"NO GUARANTEE: thresholds were moved by {of.format('unlabelled')}, assuming that "
        "most of their slices are free of tumours."
    )
    return {
        "kind": f"site_{site.role}",
        "says": says,
        "site": name,
        "n_scans": scans,
        "n_subjects": subjects,
        "n_slices": len(measured.scores),
    }
