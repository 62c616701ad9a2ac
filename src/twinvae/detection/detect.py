"""A new scan → a verdict, a table of its slices, maps on its own grid, and a page to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.markup import escape

from twinvae import __version__
from twinvae.cohort.manifest import read_strings
from twinvae.decision import ScanVerdict
from twinvae.detection.bundle import Bundle, read_bundle
from twinvae.detection.dicom_out import FOLDER, Found, dicom_beside, dicom_wanted
from twinvae.detection.privacy import Cover, is_dicom_scan, names_of
from twinvae.detection.shipped import bundle_path
from twinvae.detection.verdict import Judgement, judge_scan, summary, verdict_json, warnings
from twinvae.errors import ConfigError, DataError, PartialFailureError, TwinvaeError, reason_of
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
from twinvae.outputs import LOCK, MARKER, check_replaceable, claim, locked, remove, replaced
from twinvae.progress import console, progress_bar
from twinvae.reporting.scan_page import SLICE_COLUMNS, ScanMaterial, write_scan_page
from twinvae.scoring import (
    AbnormalityMap,
    deciding_map,
    moved,
    require_fitted,
    score_batches,
    score_table,
    select_maps,
    select_scores,
)
from twinvae.training import Compute

Pictures = NDArray[np.float32]
_SUMMARY = "summary.tsv"
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
    dicom: bool | None = None,
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

    A DICOM series also gets ``dicom/``, what was found as DICOM objects, unless ``dicom`` is False
    or highdicom is missing (with True a ``ConfigError``). Nothing else names its patient.

    A scan out of domain gets no verdict unless ``force``. One that cannot be used is reported and
    skipped: when others remain, ``PartialFailureError`` is raised at the end, else ``DataError``;
    with ``strict`` at once. What was written stays, and so do the results and the rows of the
    summary that earlier calls left in ``out``; those of the same scans are made anew.

    Raises ``OutputError``, before anything is done, when ``out`` or a folder in it holds anything
    else, or lies within an input, and ``StageError`` while another process writes there.
    """
    if skull_strip and brain_masks:
        raise ConfigError("skull-strip: expected no brain masks beside it, found some")
    todo = _scan_files(scans, brain_masks, trust_grid)
    dicom = dicom_wanted(dicom, scans)
    bundle = bundle_path(bundle)
    loaded = read_bundle(bundle)
    if skull_strip:
        loaded = replace(loaded, recipe=loaded.recipe.stripping())
    own = {"device": device or "auto", "threads": threads}
    compute = Compute.resolve(loaded.config.compute.model_copy(update=own))
    loaded.models.to(compute.device)
    extra = select_maps(maps, loaded.models)
    failures: list[str] = []
    with _results(out, todo, bundle):
        how = {"strict": strict, "force": force, "dicom": dicom}
        found = list(_each(loaded, todo, out, compute, extra, failures, **how))
        if found:
            _add_to_summary(out / _SUMMARY, found)
    if failures:
        kind = PartialFailureError if found else DataError
        raise kind(f"{len(failures)} of {len(scans)} scans skipped:\n  " + "\n  ".join(failures))
    return found


def _scan_files(
    scans: Sequence[Path], brain_masks: Sequence[Path] | None, trust_grid: bool
) -> list[ScanFiles]:
    """The scans, each under the name of its folder of results, with its mask."""
    masks: Sequence[Path | None] = brain_masks or [None] * len(scans)
    if len(masks) != len(scans):
        raise ConfigError(
            f"brain-mask: expected one for each of the {len(scans)} scans, found {len(masks)}"
        )
    return [
        ScanFiles(subject=name, image=image, brain_mask=mask, trust_grid=trust_grid)
        for name, image, mask in zip(_names(scans), scans, masks, strict=True)
    ]


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
    dicom: bool,
) -> Iterator[Detection]:
    """Judge one scan after another; why some cannot be is said, and added to ``failures``."""
    with progress_bar("detect", len(todo), hidden=len(todo) == 1) as bar:
        for scan in todo:
            bar.note(scan.subject)
            try:
                place, how = out / scan.subject, {"force": force, "dicom": dicom}
                yield detect_scan(bundle, scan, place, compute, maps, **how)
            except Exception as error:  # one odd scan must not cost the others
                reason = Cover.of(scan.image).text(reason_of(error, scan.image))
                if strict and isinstance(error, TwinvaeError):
                    raise type(error)(reason) from error
                if strict:
                    raise
                failures.append(reason)
                console.print(f"[red]skipped[/] {escape(failures[-1])}", soft_wrap=True)
            bar.advance()


@contextmanager
def _results(out: Path, todo: Sequence[ScanFiles], bundle: Path) -> Iterator[None]:
    """Claim ``out`` for this process and the scans ``todo``; nothing is left there without any."""
    masks = [scan.brain_mask for scan in todo if scan.brain_mask is not None]
    inputs = [bundle, *masks, *(file_and_volume(scan.image)[0] for scan in todo)]
    new = not out.exists()
    claim(out, "detections", inputs)
    try:
        with locked(out):
            for scan in todo:
                place = out / scan.subject
                check_replaceable(place, "results of a scan", of=_identity(scan), inputs=inputs)
            yield
    finally:
        if new:
            remove(out, [])


def _identity(scan: ScanFiles) -> str:
    """Which scan it is, wherever the command was called from."""
    file, volume = file_and_volume(scan.image)
    place = str(file.resolve()) if volume is None else f"{file.resolve()}#{volume}"
    return Cover.of(scan.image).identity(place)


def _add_to_summary(path: Path, found: Sequence[Detection]) -> None:
    """Write the summary: rows of earlier calls, less those judged anew, then these."""
    rows = pd.DataFrame(
        [summary(one.name, Cover.of(one.image).text(one.image), one.judgement) for one in found]
    )
    if path.is_file():
        earlier = read_strings(path, "\t")
        if list(earlier.columns) != list(rows.columns):
            raise DataError(
                f"{path}: expected the columns {' '.join(rows.columns)}, found "
                f"{' '.join(earlier.columns)}; move it away, then judge the scans again"
            )
        others = earlier[~earlier["name"].isin(rows["name"])]
        rows = pd.concat([others, rows.astype(object)], ignore_index=True)
    write_table(path, rows)


def detect_scan(
    bundle: Bundle,
    scan: ScanFiles,
    folder: Path,
    compute: Compute,
    maps: Sequence[AbnormalityMap] = (),
    *,
    force: bool = False,
    dicom: bool = False,
) -> Detection:
    """Judge one scan and write its folder, atomically; say aloud what qualifies the verdict.

    With ``dicom`` a DICOM series gets DICOM objects, too.

    Raises ``OutputError`` when ``folder`` holds anything but earlier results of this scan.
    """
    prepared, called = prepare_scan(scan, bundle.recipe), Cover.of(scan.image).text(scan.image)
    name = bundle.config.decision.score
    deciding = deciding_map(name) if dicom and is_dicom_scan(scan.image) else None
    wanted = maps if deciding is None else [*maps, deciding]
    scores, healthy, extra = _score(bundle, prepared, compute, wanted)
    decides = None if deciding is None else extra.pop(deciding.name)
    judgement = judge_scan(bundle, prepared, scores, force=force)
    said, table = warnings(judgement, bundle.calibration), judgement.slices
    with replaced(folder, "results of a scan", of=_identity(scan)) as room:
        _write_maps(room, prepared, healthy, extra)
        write_table(room / "slices.tsv", _for_people(table))
        verdict = {"scan": called, **verdict_json(judgement, bundle)}
        write_json(room / "verdict.json", verdict)
        page = ScanMaterial(
            name=scan.subject,
            verdict=judgement.verdict,
            slices=table.assign(score=table[name])[list(SLICE_COLUMNS)],
            score=name,
            images=unit_images(prepared.images),
            reconstructions=healthy * prepared.brain,
            made={"Scan": called, "Bundle": bundle.config.name, "twinvae": __version__},
            warnings=said,
        )
        write_scan_page(page, room / "report.html")
        if dicom and is_dicom_scan(scan.image):
            found = Found(bundle, prepared, judgement, healthy, decides, said)
            said = [*said, *dicom_beside(room / FOLDER, found)]
    for sentence in said:
        console.print(f"[bold red]{escape(scan.subject)}:[/] {escape(sentence)}", soft_wrap=True)
    return Detection(scan.subject, scan.image, folder, judgement)


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


def _write_maps(
    folder: Path, prepared: PreparedScan, healthy: Pictures, extra: dict[str, Pictures]
) -> None:
    """The maps on the scan's own grid; zero outside the brain and in slices not looked at."""
    residual = unit_images(prepared.images) - healthy
    maps = {
        "healthy.nii.gz": in_scan_units(back_to_scan(healthy, prepared), prepared),
        "residual.nii.gz": back_to_scan(residual, prepared),
        **{
            f"{_FILES.get(name, name)}.nii.gz": back_to_scan(values, prepared)
            for name, values in extra.items()
        },
    }
    with ThreadPoolExecutor() as pool:  # compression, most of the time, runs beside the other's
        for done in [pool.submit(write_volume, v, folder / name) for name, v in maps.items()]:
            done.result()


def _for_people(table: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that only cohorts have."""
    return table.drop(columns=["subject", "source", "role", "split", "tumour_px"])


def _names(scans: Sequence[Path]) -> list[str]:
    """A folder name for each scan that names no patient and none of our own files."""
    return names_of(scans, [Cover.of(scan) for scan in scans], (_SUMMARY, MARKER, LOCK))
