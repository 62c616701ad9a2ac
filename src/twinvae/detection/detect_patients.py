"""The scans of a patient, one a contrast → one verdict, a page, and what each contrast says alone.

Which files are which patient's is ``cohort.patients.patients_of``'s and ``gather``'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from twinvae.decision import Calibration
from twinvae.decision.fusion import FUSED
from twinvae.detection.batch import Job, Outcome, Report, run, skipped_all
from twinvae.detection.bids_sidecars import describe
from twinvae.detection.composite import Composite
from twinvae.detection.kept import read_judgement, write_made_from
from twinvae.detection.look import Looked, Reader, look
from twinvae.detection.options import Chosen, DetectOptions
from twinvae.detection.plan import Plan, Scans, Task, plan_detection
from twinvae.detection.privacy import called, raise_told, told
from twinvae.detection.verdict import Judgement, judge
from twinvae.detection.write_patient import PatientDetection, patient_warnings, write_patient
from twinvae.files import read_json
from twinvae.imaging import ScanFiles

Patient = Mapping[str, ScanFiles]
"""Contrast → scan."""


def detect_patients(
    bundle: Path | str, scans: Scans | Path | str, out: Path | str, **options: Unpack[Chosen]
) -> list[PatientDetection]:
    """Judge each patient by a composite bundle and write ``out/PATIENT/``, and ``out/summary.tsv``.

    ``scans``: as ``patients_of`` takes them, or folders and tables, of which scans of the bundle's
    contrasts are joined by subject and session; the rest as for ``detect_scans``. A patient's
    folder holds ``verdict.json``, ``slices.tsv`` and ``report.html`` of the contrasts together, and
    a folder ``CONTRAST/`` each with what ``detect_scans`` writes of one scan. A contrast that
    cannot be read, or is out of domain (unless ``force``), is left out and said so; a patient of
    one contrast is judged by its own bundle.

    Raises ``PartialFailureError`` at the end when scans could not be read and a patient was judged
    all the same, ``DataError`` when none was; with ``strict`` at once.
    """
    plan = plan_detection(bundle, scans, out, DetectOptions(**options), together=True)
    report = judge_patients(plan)
    report.require_all()
    return report.found


def judge_patients(plan: Plan) -> Report[PatientDetection]:
    """Do what ``plan`` says, for a composite bundle."""
    return run(plan, _judge, _recall)


def _judge(job: Job) -> Outcome[PatientDetection]:
    """Judge one patient on the scans that can be used, and write the folder, atomically.

    Raises what ``strict`` makes of a scan that cannot be used, and what is wrong with the bundle.
    """
    task, desk = job.task, job.desk()
    of = {contrast: task.files(contrast) for contrast in task.scans}
    broken: dict[str, str] = {}
    how = {"strict": job.options.strict, "force": job.options.force}
    looked = look_at(desk.readers(task), of, broken, **how)
    if not looked or desk.composite is None:
        return Outcome(None, skipped=skipped_all(task, broken))
    try:
        one, said = _written(job, desk.composite, of, looked, broken)
    except Exception as error:  # one odd patient must not cost the others
        if job.options.strict:
            raise
        reasons = {c: told(error, scan.image) for c, scan in task.scans.items()}
        return Outcome(None, skipped=skipped_all(task, reasons))
    return Outcome(one, said, skipped_all(task, broken))


def _written(
    job: Job,
    composite: Composite,
    of: Patient,
    looked: Mapping[str, Looked],
    broken: Mapping[str, str],
) -> tuple[PatientDetection, tuple[str, ...]]:
    """The patient, judged and written, and what qualifies the verdict."""
    task, force = job.task, job.options.force
    one, calibration = judge_patient(
        composite, of, looked, broken, task.name, task.place.folder, force=force
    )
    one = replace(one, warnings=(*task.left, *one.warnings))
    with task.place.replaced() as room:
        lacking = write_patient(
            room, one, composite, calibration, looked, task.place, dicom=job.dicom
        )
        describe(room, task.place, looked)
        said = (*one.warnings, *lacking)
        # Where a scan could not be read a later call tries again.
        write_made_from(room, None if broken else task.key, task.made_by, said, one.summary())
    return one, said


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


def judge_patient(
    composite: Composite,
    of: Patient,
    looked: Mapping[str, Looked],
    broken: Mapping[str, str],
    name: str,
    folder: Path,
    *,
    force: bool,
) -> tuple[PatientDetection, Calibration]:
    """What the contrasts say together, and the thresholds that rests on.

    ``broken``: contrast → why it cannot be used; ``name``: what the patient is called; ``folder``:
    where results are to be written.
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
        name=name,
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


def _recall(task: Task) -> PatientDetection:
    """What an earlier call found."""
    said = read_json(task.place.path("verdict.json"))
    alone = {contrast: read_judgement(task.place, f"{contrast}/") for contrast in said["alone"]}
    judged = [alone[contrast] for contrast in said["contrasts"] or alone]
    outside = tuple(out for one in judged for out in one.outside)
    return PatientDetection(
        name=task.name,
        folder=task.place.folder,
        scans=said["scans"],
        contrasts=tuple(said["contrasts"]),
        score=said["score"],
        judgement=read_judgement(task.place, outside=outside),
        alone=alone,
        left_out=said["left_out"],
        warnings=tuple(said["warnings"]),
    )
