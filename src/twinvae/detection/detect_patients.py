"""The scans of a patient, one a contrast → one verdict, a page, and what each contrast says alone.

Which files are which patient's is ``cohort.patients.patients_of``'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.markup import escape

from twinvae.cohort.patients import ContrastFile, patients_of
from twinvae.decision import Calibration
from twinvae.decision.fusion import FUSED
from twinvae.detection.composite import Composite, read_composite
from twinvae.detection.detect import masks_of
from twinvae.detection.dicom_out import dicom_wanted
from twinvae.detection.look import Looked, Reader, look
from twinvae.detection.privacy import Cover, called, raise_told, told
from twinvae.detection.results import RESERVED, add_to_summary, identity, results, say_warnings
from twinvae.detection.shipped import bundle_path
from twinvae.detection.verdict import Judgement, judge
from twinvae.detection.write_patient import PatientDetection, patient_warnings, write_patient
from twinvae.errors import ConfigError, DataError, PartialFailureError
from twinvae.files import digest, file_and_volume
from twinvae.imaging import ScanFiles, Stripping
from twinvae.outputs import replaced
from twinvae.progress import console, progress_bar

Patient = Mapping[str, ScanFiles]
"""Contrast → scan."""


def detect_patients(
    bundle: Path,
    scans: Sequence[Path | str],
    out: Path,
    *,
    brain_masks: Sequence[Path] | None = None,
    trust_grid: bool = False,
    skull_strip: bool | Stripping = False,
    maps: Sequence[str] = (),
    strict: bool = False,
    force: bool = False,
    dicom: bool | None = None,
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
    given = masks_of(scans, brain_masks, skull_strip)
    composite = read_composite(bundle)
    files = _covered(patients_of(scans, composite.contrasts))
    _require_folders(files)
    dicom = dicom_wanted(dicom, [file.path for of in files.values() for file in of.values()])
    masks = dict(zip(map(str, scans), given, strict=True))
    todo = {
        name: {
            c: ScanFiles(
                name, f.path, brain_mask=masks[f.given], trust_grid=trust_grid, contrast=f.said
            )
            for c, f in of.items()
        }
        for name, of in files.items()
    }
    there = [c for c in composite.contrasts if any(c in of for of in todo.values())]
    readers = {
        contrast: Reader.of(
            member, maps=maps, device=device, threads=threads, skull_strip=skull_strip
        )
        for contrast, member in composite.members(there).items()
    }
    failures: list[str] = []
    with results(out, {name: _identity(of) for name, of in todo.items()}, _inputs(bundle, todo)):
        how = {"strict": strict, "force": force, "dicom": dicom}
        found = list(_each(composite, readers, todo, out, failures, **how))
        add_to_summary(out, [one.summary() for one in found])
    if failures:
        kind = PartialFailureError if found else DataError
        raise kind(f"{len(failures)} of {len(scans)} scans skipped:\n  " + "\n  ".join(failures))
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
    dicom: bool,
) -> Iterator[PatientDetection]:
    """Judge one patient after another; why scans cannot be is said, and put in ``failures``."""
    with progress_bar("detect", len(todo), hidden=len(todo) == 1) as bar:
        for name, of in todo.items():
            bar.note(name)
            broken: dict[str, str] = {}
            try:
                looked = look_at(readers, of, broken, strict=strict, force=force)
                if looked:
                    how = {"force": force, "dicom": dicom}
                    yield _patient(composite, of, looked, broken, out / name, **how)
            except Exception as error:  # one odd patient must not cost the others
                if strict:
                    raise
                broken |= {c: told(error, scan.image) for c, scan in of.items()}
            for reason in broken.values():
                console.print(f"[red]skipped[/] {escape(reason)}", soft_wrap=True)
            failures += broken.values()
            bar.advance()


def look_at(
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
        name = f"{of[contrast].subject}, {contrast}"
        try:
            looked[contrast] = look(readers[contrast], of[contrast], name=name, force=force)
        except Exception as error:  # the patient is judged on the others
            if strict:
                raise_told(error, of[contrast].image)
            broken[contrast] = told(error, of[contrast].image)
    return looked


def _patient(
    composite: Composite,
    of: Patient,
    looked: Mapping[str, Looked],
    broken: Mapping[str, str],
    folder: Path,
    *,
    force: bool,
    dicom: bool,
) -> PatientDetection:
    """Judge one patient and write the folder, atomically; say aloud what qualifies the verdict."""
    one, calibration = judge_patient(composite, of, looked, broken, folder, force=force)
    with replaced(folder, "results of a scan", of=_identity(of)) as room:
        lacking = write_patient(room, one, composite, calibration, looked, dicom=dicom)
    say_warnings(one.name, [*one.warnings, *lacking])
    return one


def judge_patient(
    composite: Composite,
    of: Patient,
    looked: Mapping[str, Looked],
    broken: Mapping[str, str],
    folder: Path,
    *,
    force: bool,
) -> tuple[PatientDetection, Calibration]:
    """What the contrasts say together, and the thresholds that rests on.

    ``broken``: contrast → why it cannot be used; ``folder``: where results are to be written.
    """
    alone = {contrast: each.judgement for contrast, each in looked.items()}
    inside = {c: each for c, each in looked.items() if each.judgement.verdict is not None}
    left_out = {
        contrast: "out of domain: " + "; ".join(map(str, one.outside))
        for contrast, one in alone.items()
        if contrast not in inside
    } | dict(broken)
    score, calibration, judgement = _together(composite, inside or looked, force=force)
    one = PatientDetection(
        name=folder.name,
        folder=folder,
        scans={contrast: called(scan.image) for contrast, scan in of.items()},
        contrasts=tuple(inside),
        score=score,
        judgement=judgement,
        alone=alone,
        left_out=left_out,
        warnings=patient_warnings(judgement, left_out, looked),
    )
    return one, calibration


def _together(
    composite: Composite, looked: Mapping[str, Looked], *, force: bool
) -> tuple[str, Calibration, Judgement]:
    """The score that decides, its thresholds, and the judgement of some contrasts by it."""
    if len(looked) == 1:
        (only,) = looked.values()
        return only.bundle.config.decision.score, only.bundle.calibration, only.judgement
    outside = tuple(out for one in looked.values() for out in one.judgement.outside)
    calibration = composite.calibration(looked)
    slices = composite.fused({contrast: one.judgement.slices for contrast, one in looked.items()})
    return FUSED, calibration, judge(calibration, slices, FUSED, outside, force=force)


def _covered(
    files: Mapping[str, Mapping[str, ContrastFile]],
) -> dict[str, Mapping[str, ContrastFile]]:
    """The patients under names that none of their own DICOM headers holds."""
    found = {}
    for name, of in files.items():
        covers = [Cover.of(file.path) for file in of.values()]
        hidden = any(cover.hides(name) for cover in covers)
        series = sorted(cover.series for cover in covers)
        found[f"patient-{digest(series)[:8]}" if hidden else name] = of
    return found


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
