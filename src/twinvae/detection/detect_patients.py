"""The scans of a patient, one a contrast → one verdict, a page, and what each contrast says alone.

Which files are which patient's is ``cohort.patients.patients_of``'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from twinvae import __version__
from twinvae.cohort.patients import ContrastFile, patients_of
from twinvae.decision import Calibration, ScanVerdict
from twinvae.decision.fusion import FUSED
from twinvae.detection.bundle import Bundle
from twinvae.detection.composite import Composite, read_composite
from twinvae.detection.detect import Looked, look, write_scan
from twinvae.detection.results import (
    RESERVED,
    add_to_summary,
    for_people,
    identity,
    results,
    say_warnings,
)
from twinvae.detection.shipped import bundle_path
from twinvae.detection.verdict import (
    DISCLAIMER,
    Judgement,
    calibration_json,
    facts_json,
    judge,
)
from twinvae.errors import ConfigError, DataError, PartialFailureError, reason_of
from twinvae.files import file_and_volume, write_json, write_table
from twinvae.imaging import ScanFiles
from twinvae.outputs import replaced
from twinvae.progress import console, progress_bar
from twinvae.reporting.patient_page import PatientMaterial, write_patient_page
from twinvae.reporting.scan_page import SLICE_COLUMNS
from twinvae.scoring import AbnormalityMap, select_maps
from twinvae.training import Compute

Patient = Mapping[str, ScanFiles]
"""Contrast → scan."""


@dataclass(frozen=True)
class Reader:
    """What looks at the scans of one contrast."""

    bundle: Bundle
    compute: Compute
    maps: Sequence[AbnormalityMap]


@dataclass(frozen=True)
class PatientDetection:
    """What was found in one patient, and where it was written."""

    name: str
    folder: Path
    contrasts: tuple[str, ...]
    """Those that were judged together."""
    score: str
    """Name of the score that decided: ``fused``, or the only contrast's own."""
    judgement: Judgement
    """On these contrasts together; without a verdict when none was in domain."""
    alone: Mapping[str, Judgement]
    """What each contrast that could be read says alone."""
    left_out: Mapping[str, str]
    """Contrast → why it has no part in the verdict."""

    @property
    def verdict(self) -> ScanVerdict | None:
        """The verdict; None when no contrast was in domain, unless forced."""
        return self.judgement.verdict


def detect_patients(
    bundle: Path,
    scans: Sequence[Path | str],
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
) -> list[PatientDetection]:
    """Judge each patient by a composite bundle and write ``out/PATIENT/``, and ``out/summary.tsv``.

    ``scans``: as ``patients_of`` takes them; the rest as for ``detect_scans``. A patient's folder
    holds ``verdict.json``, ``slices.tsv`` and ``report.html`` of the contrasts together, and a
    folder ``CONTRAST/`` each with what ``detect_scans`` writes of one scan. A contrast that cannot
    be read, or is out of domain (unless ``force``), is left out and said so; a patient of one
    contrast is judged by its own bundle.

    Raises ``PartialFailureError`` at the end when scans could not be read and a patient was judged
    all the same, ``DataError`` when none was; with ``strict`` at once.
    """
    if brain_masks and len(brain_masks) != len(scans):
        raise ConfigError(
            f"brain-mask: expected one for each of the {len(scans)} scans, found {len(brain_masks)}"
        )
    if skull_strip and brain_masks:
        raise ConfigError("skull-strip: expected no brain masks beside it, found some")
    composite = read_composite(bundle)
    files = patients_of(scans, composite.contrasts)
    _require_folders(files)
    given: Sequence[Path | None] = brain_masks or [None] * len(scans)
    masks = dict(zip(map(str, scans), given, strict=True))
    todo = {
        name: {
            c: ScanFiles(name, f.path, brain_mask=masks[f.given], trust_grid=trust_grid)
            for c, f in of.items()
        }
        for name, of in files.items()
    }
    readers = _readers(composite, todo, maps, device, threads, skull_strip=skull_strip)
    failures: list[str] = []
    with results(out, {name: _identity(of) for name, of in todo.items()}, _inputs(bundle, todo)):
        found = list(_each(composite, readers, todo, out, failures, strict=strict, force=force))
        add_to_summary(out, [_summary(one, todo[one.name]) for one in found])
    if failures:
        kind = PartialFailureError if found else DataError
        raise kind(f"{len(failures)} of {len(scans)} scans skipped:\n  " + "\n  ".join(failures))
    return found


def _readers(
    composite: Composite,
    todo: Mapping[str, Patient],
    maps: Sequence[str],
    device: str | None,
    threads: int | None,
    *,
    skull_strip: bool,
) -> dict[str, Reader]:
    """Contrast → what looks at it, of the contrasts that some patient has."""
    there = {contrast for of in todo.values() for contrast in of}
    own = {"device": device or "auto", "threads": threads}
    found = {}
    for contrast, bundle in composite.members(c for c in composite.contrasts if c in there).items():
        compute = Compute.resolve(bundle.config.compute.model_copy(update=own))
        bundle.models.to(compute.device)
        stripping = replace(bundle, recipe=bundle.recipe.stripping()) if skull_strip else bundle
        found[contrast] = Reader(stripping, compute, select_maps(maps, bundle.models))
    return found


def _each(
    composite: Composite,
    readers: Mapping[str, Reader],
    todo: Mapping[str, Patient],
    out: Path,
    failures: list[str],
    *,
    strict: bool,
    force: bool,
) -> Iterator[PatientDetection]:
    """Judge one patient after another; why scans cannot be is said, and put in ``failures``."""
    with progress_bar("detect", len(todo), hidden=len(todo) == 1) as bar:
        for name, of in todo.items():
            bar.note(name)
            broken: dict[str, str] = {}
            try:
                looked = _look(readers, of, broken, strict=strict, force=force)
                if looked:
                    yield _patient(composite, readers, name, of, looked, broken, out, force=force)
            except Exception as error:  # one odd patient must not cost the others
                if strict:
                    raise
                broken |= {c: reason_of(error, scan.image) for c, scan in of.items()}
            for reason in broken.values():
                console.print(f"[red]skipped[/] {escape(reason)}", soft_wrap=True)
            failures += broken.values()
            bar.advance()


def _look(
    readers: Mapping[str, Reader],
    of: Patient,
    broken: dict[str, str],
    *,
    strict: bool,
    force: bool,
) -> dict[str, Looked]:
    """Contrast → what was found; why some cannot be used is put in ``broken``."""
    looked = {}
    for contrast in (c for c in readers if c in of):
        reader = readers[contrast]
        try:
            found = look(reader.bundle, of[contrast], reader.compute, reader.maps, force=force)
            page = replace(found.material, name=f"{of[contrast].subject}, {contrast}")
            looked[contrast] = replace(found, material=page)
        except Exception as error:  # the patient is judged on the others
            if strict:
                raise
            broken[contrast] = reason_of(error, of[contrast].image)
    return looked


def _patient(
    composite: Composite,
    readers: Mapping[str, Reader],
    name: str,
    of: Patient,
    looked: Mapping[str, Looked],
    broken: Mapping[str, str],
    out: Path,
    *,
    force: bool,
) -> PatientDetection:
    """Judge one patient and write the folder, atomically; say aloud what qualifies the verdict."""
    alone = {contrast: each.judgement for contrast, each in looked.items()}
    inside = {c: one for c, one in alone.items() if one.verdict is not None}
    left_out = {c: "out of domain: " + "; ".join(map(str, one.outside))
                for c, one in alone.items() if c not in inside} | dict(broken)  # fmt: skip
    bundles = {contrast: reader.bundle for contrast, reader in readers.items()}
    score, calibration, judgement = _together(composite, bundles, inside or alone, force=force)
    contrasts = tuple(inside)
    one = PatientDetection(name, out / name, contrasts, score, judgement, alone, left_out)
    with replaced(one.folder, "results of a scan", of=_identity(of)) as room:
        for contrast, each in looked.items():
            (room / contrast).mkdir()
            write_scan(room / contrast, bundles[contrast], each)
        write_table(room / "slices.tsv", for_people(judgement.slices))
        write_json(room / "verdict.json", _verdict_json(one, of, composite, calibration, bundles))
        write_patient_page(_material(one, of, composite, looked), room / "report.html")
    say_warnings(name, _warnings(one))
    return one


def _together(
    composite: Composite,
    bundles: Mapping[str, Bundle],
    alone: Mapping[str, Judgement],
    *,
    force: bool,
) -> tuple[str, Calibration, Judgement]:
    """The score that decides, its thresholds, and the judgement of some contrasts by it."""
    if len(alone) == 1:
        ((contrast, only),) = alone.items()
        bundle = bundles[contrast]
        return bundle.config.decision.score, bundle.calibration, only
    outside = tuple(each for one in alone.values() for each in one.outside)
    calibration = composite.calibration(alone)
    slices = composite.fused({contrast: one.slices for contrast, one in alone.items()})
    return FUSED, calibration, judge(calibration, slices, FUSED, outside, force=force)


def _verdict_json(
    one: PatientDetection,
    of: Patient,
    composite: Composite,
    calibration: Calibration,
    bundles: Mapping[str, Bundle],
) -> dict[str, Any]:
    """Everything about the verdict, ready for JSON; null where none is given."""
    return {
        "patient": one.name,
        "scans": {contrast: str(scan.image) for contrast, scan in of.items()},
        "bundle": composite.name,
        "contrasts": list(one.contrasts),
        "left_out": dict(one.left_out),
        **facts_json(one.judgement, calibration, one.score),
        "alone": {
            contrast: facts_json(
                each, bundles[contrast].calibration, bundles[contrast].config.decision.score
            )
            for contrast, each in one.alone.items()
        },
        "calibration": calibration_json(calibration),
        "note": DISCLAIMER,
    }


def _material(
    one: PatientDetection, of: Patient, composite: Composite, looked: Mapping[str, Looked]
) -> PatientMaterial:
    scans = {contrast: str(scan.image) for contrast, scan in of.items()}
    table = one.judgement.slices
    return PatientMaterial(
        name=one.name,
        verdict=one.verdict,
        slices=table.assign(score=table[one.score])[list(SLICE_COLUMNS)],
        score=one.score,
        scans={contrast: each.material for contrast, each in looked.items()},
        words=_words(one),
        made={**scans, "Bundle": composite.name, "twinvae": __version__},
        warnings=_warnings(one),
    )


def _words(one: PatientDetection) -> dict[str, str]:
    """What each contrast says alone, and whether it was left out."""
    said = {contrast: each.word for contrast, each in one.alone.items()}
    return said | {contrast: f"left out, {why}" for contrast, why in one.left_out.items()}


def _warnings(one: PatientDetection) -> list[str]:
    left = [f"{contrast} was left out, {why}" for contrast, why in one.left_out.items()]
    forced = one.verdict is not None and one.judgement.outside
    return left + (["OUT OF DOMAIN: the verdict was forced."] if forced else [])


def _summary(one: PatientDetection, of: Patient) -> dict[str, Any]:
    """The patient's row of summary.tsv."""
    verdict, abnormal = one.verdict, one.judgement.called
    return {
        "name": one.name,
        "scans": "; ".join(str(scan.image) for scan in of.values()),
        "verdict": one.judgement.word,
        "contrasts": " ".join(one.contrasts),
        "score": one.score,
        "statistic": verdict and verdict.statistic,
        "value": verdict and verdict.value,
        "threshold": verdict and verdict.threshold,
        "p_value": verdict and verdict.p_value,
        "abnormal_slices": None if abnormal is None else len(abnormal),
        "slices": len(one.judgement.slices),
        "alone": "; ".join(f"{contrast} {each.word}" for contrast, each in one.alone.items()),
        "left_out": "; ".join(f"{contrast} {why}" for contrast, why in one.left_out.items()),
    }


def _require_folders(files: Mapping[str, Mapping[str, ContrastFile]]) -> None:
    for name, of in files.items():
        if name.casefold() in RESERVED:
            first = next(iter(of.values()))
            raise ConfigError(
                f"{first.given}: expected another name than {name} for a patient; give it as "
                f"P1:{first.contrast}={first.path}"
            )


def _identity(of: Patient) -> str:
    return ", ".join(sorted(identity(scan.image) for scan in of.values()))


def _inputs(bundle: Path, todo: Mapping[str, Patient]) -> list[Path]:
    scans = [scan for of in todo.values() for scan in of.values()]
    masks = [scan.brain_mask for scan in scans if scan.brain_mask is not None]
    return [bundle_path(bundle), *masks, *(file_and_volume(scan.image)[0] for scan in scans)]
