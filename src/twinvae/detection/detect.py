"""A new scan → a verdict, a table of its slices, maps on its own grid, and a page to look at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.markup import escape

from twinvae import __version__
from twinvae.decision import ScanVerdict
from twinvae.detection.bundle import Bundle, read_bundle
from twinvae.detection.results import (
    RESERVED,
    add_to_summary,
    for_people,
    identity,
    results,
    say_warnings,
)
from twinvae.detection.shipped import bundle_path
from twinvae.detection.verdict import Judgement, judge_scan, summary, verdict_json, warnings
from twinvae.errors import ConfigError, DataError, PartialFailureError, reason_of
from twinvae.files import file_and_volume, write_json, write_table
from twinvae.imaging import (
    PreparedScan,
    ScanFiles,
    back_to_scan,
    in_scan_units,
    prepare_scan,
    unit_images,
    write_volume,
)
from twinvae.outputs import replaced
from twinvae.progress import console, progress_bar
from twinvae.reporting.scan_page import SLICE_COLUMNS, ScanMaterial, write_scan_page
from twinvae.scoring import (
    AbnormalityMap,
    moved,
    require_fitted,
    score_batches,
    score_table,
    select_maps,
    select_scores,
)
from twinvae.training import Compute

Pictures = NDArray[np.float32]
_FILES = {"residual": "residual_positive"}  # residual.nii.gz, the signed one, is always written


@dataclass(frozen=True)
class Detection:
    """What was found in one scan, and where it was written."""

    name: str
    image: Path
    folder: Path
    judgement: Judgement

    @property
    def verdict(self) -> ScanVerdict | None:
        """The verdict; None for a scan out of domain, unless forced."""
        return self.judgement.verdict

    @property
    def slices(self) -> pd.DataFrame:
        """One row a slice (``Judgement.slices``)."""
        return self.judgement.slices


def detect_scans(
    bundle: Path,
    scans: Sequence[Path],
    out: Path,
    *,
    brain_masks: Sequence[Path] | None = None,
    trust_grid: bool = False,
    skull_strip: bool = False,
    maps: Sequence[str] = (),
    strict: bool = False,
    force: bool = False,
    device: str | None = None,
    threads: int | None = None,
) -> list[Detection]:
    """Judge each of ``scans`` and write ``out/NAME/`` for it, and ``out/summary.tsv`` for all.

    ``bundle``: a folder, or the name of a bundle that comes with the package. A scan's folder holds
    ``verdict.json``, ``slices.tsv``, ``healthy.nii.gz`` (the healthy reconstruction in the scan's
    units), ``residual.nii.gz`` (scan less reconstruction, as the models see them, in [−1, 1]),
    ``NAME.nii.gz`` for each of ``maps`` (names or patterns), all on the scan's own grid, and
    ``report.html``. Scans without a mask in ``brain_masks`` must be skull-stripped, unless
    ``skull_strip`` finds the brain in whole heads (HD-BET, ``pip install "twinvae[hdbet]"``);
    with ``trust_grid`` masks of the scan's shape and voxel size lie on its grid.

    A scan out of domain gets no verdict unless ``force``. One that cannot be used is reported and
    skipped: when others remain, ``PartialFailureError`` is raised at the end, else ``DataError``;
    with ``strict`` at once. What was written stays, and so do the results and the rows of the
    summary that earlier calls left in ``out``; those of the same scans are made anew.

    Raises ``OutputError``, before anything is done, when ``out`` or a folder in it holds anything
    else, or lies within an input, and ``StageError`` while another process writes there.
    """
    masks: Sequence[Path | None] = brain_masks or [None] * len(scans)
    if len(masks) != len(scans):
        raise ConfigError(
            f"brain-mask: expected one for each of the {len(scans)} scans, found {len(masks)}"
        )
    if skull_strip and brain_masks:
        raise ConfigError("skull-strip: expected no brain masks beside it, found some")
    bundle = bundle_path(bundle)
    loaded = read_bundle(bundle)
    if skull_strip:
        loaded = replace(loaded, recipe=loaded.recipe.stripping())
    own = {"device": device or "auto", "threads": threads}
    compute = Compute.resolve(loaded.config.compute.model_copy(update=own))
    loaded.models.to(compute.device)
    extra = select_maps(maps, loaded.models)
    todo = [
        ScanFiles(subject=name, image=image, brain_mask=mask, trust_grid=trust_grid)
        for name, image, mask in zip(_names(scans), scans, masks, strict=True)
    ]
    failures: list[str] = []
    inputs = [bundle, *filter(None, masks), *(file_and_volume(scan)[0] for scan in scans)]
    with results(out, {scan.subject: identity(scan.image) for scan in todo}, inputs):
        found = list(_each(loaded, todo, out, compute, extra, failures, strict=strict, force=force))
        add_to_summary(out, [summary(one.name, str(one.image), one.judgement) for one in found])
    if failures:
        kind = PartialFailureError if found else DataError
        raise kind(f"{len(failures)} of {len(scans)} scans skipped:\n  " + "\n  ".join(failures))
    return found


def _each(
    bundle: Bundle,
    todo: Sequence[ScanFiles],
    out: Path,
    compute: Compute,
    maps: Sequence[AbnormalityMap],
    failures: list[str],
    *,
    strict: bool,
    force: bool,
) -> Iterator[Detection]:
    """Judge one scan after another; why some cannot be is said, and added to ``failures``."""
    with progress_bar("detect", len(todo), hidden=len(todo) == 1) as bar:
        for scan in todo:
            bar.note(scan.subject)
            try:
                yield detect_scan(bundle, scan, out / scan.subject, compute, maps, force=force)
            except Exception as error:  # one odd scan must not cost the others
                if strict:
                    raise
                failures.append(reason_of(error, scan.image))
                console.print(f"[red]skipped[/] {escape(failures[-1])}", soft_wrap=True)
            bar.advance()


def detect_scan(
    bundle: Bundle,
    scan: ScanFiles,
    folder: Path,
    compute: Compute,
    maps: Sequence[AbnormalityMap] = (),
    *,
    force: bool = False,
) -> Detection:
    """Judge one scan and write its folder, atomically; say aloud what qualifies the verdict.

    Raises ``OutputError`` when ``folder`` holds anything but earlier results of this scan.
    """
    looked = look(bundle, scan, compute, maps, force=force)
    with replaced(folder, "results of a scan", of=identity(scan.image)) as room:
        write_scan(room, bundle, looked)
    say_warnings(scan.subject, looked.material.warnings)
    return Detection(scan.subject, scan.image, folder, looked.judgement)


@dataclass(frozen=True)
class Looked:
    """A scan that was looked at, before anything of it is written."""

    scan: ScanFiles
    prepared: PreparedScan
    judgement: Judgement
    healthy: Pictures
    """(n, H, W): the healthy reconstruction in (0, 1)."""
    maps: dict[str, Pictures]
    """Further maps by name, (n, H, W)."""
    material: ScanMaterial
    """Of its page."""


def look(
    bundle: Bundle,
    scan: ScanFiles,
    compute: Compute,
    maps: Sequence[AbnormalityMap] = (),
    *,
    force: bool = False,
) -> Looked:
    """Prepare, score and judge one scan."""
    prepared = prepare_scan(scan, bundle.recipe)
    scores, healthy, extra = _score(bundle, prepared, compute, maps)
    judgement = judge_scan(bundle, prepared, scores, force=force)
    name, table = bundle.config.decision.score, judgement.slices
    material = ScanMaterial(
        name=scan.subject,
        verdict=judgement.verdict,
        slices=table.assign(score=table[name])[list(SLICE_COLUMNS)],
        score=name,
        images=unit_images(prepared.images),
        reconstructions=healthy * prepared.brain,
        made={"Scan": scan.image, "Bundle": bundle.config.name, "twinvae": __version__},
        warnings=warnings(judgement, bundle.calibration),
    )
    return Looked(scan, prepared, judgement, healthy, extra, material)


def write_scan(room: Path, bundle: Bundle, looked: Looked) -> None:
    """Write everything about one scan into the folder ``room``."""
    _write_maps(room, looked)
    write_table(room / "slices.tsv", for_people(looked.judgement.slices))
    verdict = {"scan": str(looked.scan.image), **verdict_json(looked.judgement, bundle)}
    write_json(room / "verdict.json", verdict)
    write_scan_page(looked.material, room / "report.html")


def _score(
    bundle: Bundle, prepared: PreparedScan, compute: Compute, maps: Sequence[AbnormalityMap]
) -> tuple[pd.DataFrame, Pictures, dict[str, Pictures]]:
    """Every slice's scores, its healthy reconstruction in (0, 1), and its maps by name."""
    options, rows = bundle.config.scoring, np.arange(len(prepared.index))
    calibrated = bundle.calibration["scores"]
    scores = [s for s in select_scores(options.scores, bundle.models) if s.name in calibrated]
    require_fitted(scores, bundle.fitted, "bundle")
    done = list(
        score_batches(
            prepared, rows, bundle.models, options, compute,
            scores=scores, maps=maps, x_h=True, fitted=moved(bundle.fitted, compute.device),
        )
    )  # fmt: skip
    table = score_table(prepared, rows, [batch.scores for batch in done], scores, options)
    healthy = np.concatenate([batch.x_h for batch in done])
    extra = {m.name: np.concatenate([batch.maps[m.name] for batch in done]) for m in maps}
    return table, healthy, extra


def _write_maps(folder: Path, looked: Looked) -> None:
    """The maps on the scan's own grid; zero outside the brain and in slices not looked at."""
    prepared, healthy = looked.prepared, looked.healthy
    residual = unit_images(prepared.images) - healthy
    maps = {
        "healthy.nii.gz": in_scan_units(back_to_scan(healthy, prepared), prepared),
        "residual.nii.gz": back_to_scan(residual, prepared),
        **{
            f"{_FILES.get(name, name)}.nii.gz": back_to_scan(values, prepared)
            for name, values in looked.maps.items()
        },
    }
    with ThreadPoolExecutor() as pool:  # compression, most of the time, runs beside the other's
        for done in [pool.submit(write_volume, v, folder / name) for name, v in maps.items()]:
            done.result()


def _names(scans: Sequence[Path]) -> list[str]:
    """A folder name for each scan: its own without suffixes, numbered where that repeats.

    No two are the same, not even on disks that take `A` for `a`.
    """
    files = [file_and_volume(scan)[0] for scan in scans]
    stems = [f.resolve().name if f.is_dir() else f.name.split(".")[0] for f in files]
    stems = [stem or "scan" for stem in stems]
    folded = [stem.casefold() for stem in stems]
    taken = {*RESERVED, *(stem for stem in folded if folded.count(stem) == 1)}
    names = []
    for stem, fold in zip(stems, folded, strict=True):
        numbered = (f"{stem}_{number}" for number in itertools.count(1))
        alone = folded.count(fold) == 1 and fold not in RESERVED
        names.append(stem if alone else next(n for n in numbered if n.casefold() not in taken))
        taken.add(names[-1].casefold())
    return names
