"""A new scan → a verdict, a table of its slices, maps on its own grid, and a page to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from twinvae.decision import ScanVerdict
from twinvae.detection.batch import Job, Outcome, Report, run, skipped_all
from twinvae.detection.bids_sidecars import describe
from twinvae.detection.kept import read_judgement, write_made_from
from twinvae.detection.look import look
from twinvae.detection.options import Chosen, DetectOptions
from twinvae.detection.plan import Plan, Scans, Task, plan_detection
from twinvae.detection.privacy import called, raise_told, told
from twinvae.detection.verdict import Judgement, summary
from twinvae.detection.write import write_scan


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

    def summary(self) -> dict[str, Any]:
        """The scan's row of summary.tsv."""
        return summary(self.name, called(self.image), self.judgement)


def detect_scans(
    bundle: Path | str, scans: Scans | Path | str, out: Path | str, **options: Unpack[Chosen]
) -> list[Detection]:
    """Judge scans and write ``out/NAME/`` for each, and for all of them ``out/summary.tsv`` and
    ``out/index.html``. ``options``: those of ``DetectOptions``, by their names.

    ``bundle``: a folder, or the name of a bundle that comes with the package. ``scans``: files and
    DICOM series; of folders, tables and DICOM studies the scans of the bundle's contrast
    (``gather``). A scan's folder holds
    ``verdict.json``, ``slices.tsv``, ``healthy.nii.gz`` (the healthy reconstruction in the scan's
    units), ``residual.nii.gz`` (scan less reconstruction, as the models see them, in [−1, 1]),
    ``NAME.nii.gz`` for each of ``maps``, all on the scan's own grid,
    ``lesions.tsv`` (places that stand out), and ``report.html`` with its ``thumbnail.png``. Scans
    without a brain mask must be skull-stripped, unless ``skull_strip`` finds the brain in whole
    heads. That mask is written too,
    ``brain_mask.nii.gz``, and its outline shown on the page.

    A DICOM series also gets ``dicom/``, what was found as DICOM objects, unless ``dicom`` is False
    or highdicom is missing (with True a ``ConfigError``). Nothing else names its patient.

    A scan out of domain gets no verdict unless ``force``. One that cannot be used is reported and
    skipped: when others remain, ``PartialFailureError`` is raised at the end, else ``DataError``;
    with ``strict`` at once. What was written stays, and so do the results and the rows of the
    summary that earlier calls left in ``out``. Results of the same scans, bundle and options are
    kept as they are and read back, unless ``again``: so a call that was cut off goes on.

    Raises ``DataError`` when a scan or mask is not there, and ``OutputError`` when ``out`` or a
    folder in it holds anything else, or lies within an input, both before anything is done. Other
    processes may fill ``out`` at the same time.
    """
    plan = plan_detection(bundle, scans, out, DetectOptions(**options), together=False)
    report = judge_scans(plan)
    report.require_all()
    return report.found


def judge_scans(plan: Plan) -> Report[Detection]:
    """Do what ``plan`` says, for a bundle of one contrast."""
    return run(plan, _judge, _recall)


def _judge(job: Job) -> Outcome[Detection]:
    """Judge one scan and write its folder, atomically.

    Raises what ``strict`` makes of a scan that cannot be used, and what is wrong with the bundle.
    """
    task = job.task
    ((contrast, reader),) = job.desk().readers(task).items()
    scan = task.files(contrast)
    try:
        looked = look(reader, scan, force=job.options.force)
        found = Detection(task.name, scan.image, task.place.folder, looked.judgement)
        with task.place.replaced() as room:
            lacking = write_scan(room, looked, dicom=job.dicom, bids=task.place.dataset is not None)
            describe(room, task.place, {"": looked})
            said = (*looked.warnings, *lacking)
            write_made_from(room, task.key, task.made_by, said, found.summary())
    except Exception as error:  # one odd scan must not cost the others
        if job.options.strict:
            raise_told(error, scan.image)
        return Outcome(None, skipped=skipped_all(task, {contrast: told(error, scan.image)}))
    return Outcome(found, said)


def _recall(task: Task) -> Detection:
    """What an earlier call found."""
    (scan,) = task.scans.values()
    return Detection(task.name, scan.image, task.place.folder, read_judgement(task.place))
