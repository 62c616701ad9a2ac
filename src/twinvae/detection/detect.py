"""A new scan → a verdict, a table of its slices, maps on its own grid, and a page to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.markup import escape

from twinvae.decision import ScanVerdict
from twinvae.detection.bundle import read_bundle
from twinvae.detection.dicom_out import dicom_wanted
from twinvae.detection.look import Reader, look
from twinvae.detection.privacy import Cover, called, names_of, raise_told, told
from twinvae.detection.results import RESERVED, add_to_summary, identity, results, say_warnings
from twinvae.detection.shipped import bundle_path
from twinvae.detection.verdict import Judgement, summary
from twinvae.detection.write import write_scan
from twinvae.errors import ConfigError, DataError, PartialFailureError
from twinvae.files import file_and_volume
from twinvae.imaging import ScanFiles, Stripping
from twinvae.outputs import replaced
from twinvae.progress import console, progress_bar


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
    skull_strip: bool | Stripping = False,
    maps: Sequence[str] = (),
    strict: bool = False,
    force: bool = False,
    dicom: bool | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> list[Detection]:
    """Judge each of ``scans`` and write ``out/NAME/`` for it, and for all of them
    ``out/summary.tsv`` and ``out/index.html``.

    ``bundle``: a folder, or the name of a bundle that comes with the package. A scan's folder holds
    ``verdict.json``, ``slices.tsv``, ``healthy.nii.gz`` (the healthy reconstruction in the scan's
    units), ``residual.nii.gz`` (scan less reconstruction, as the models see them, in [−1, 1]),
    ``NAME.nii.gz`` for each of ``maps`` (names or patterns), all on the scan's own grid,
    ``lesions.tsv`` (places that stand out), and ``report.html`` with its ``thumbnail.png``. Scans
    without a mask in ``brain_masks`` must be skull-stripped, unless ``skull_strip`` finds the brain
    in whole heads: by HD-BET (``pip install "twinvae[hdbet]"``) or by a template, as it says; True:
    by HD-BET where that is installed, else by the template. That mask is written too,
    ``brain_mask.nii.gz``, and its outline shown on the page. With ``trust_grid`` masks of the
    scan's shape and voxel size lie on its grid.

    A DICOM series also gets ``dicom/``, what was found as DICOM objects, unless ``dicom`` is False
    or highdicom is missing (with True a ``ConfigError``). Nothing else names its patient.

    A scan out of domain gets no verdict unless ``force``. One that cannot be used is reported and
    skipped: when others remain, ``PartialFailureError`` is raised at the end, else ``DataError``;
    with ``strict`` at once. What was written stays, and so do the results and the rows of the
    summary that earlier calls left in ``out``; those of the same scans are made anew.

    Raises ``OutputError``, before anything is done, when ``out`` or a folder in it holds anything
    else, or lies within an input, and ``StageError`` while another process writes there.
    """
    masks = masks_of(scans, brain_masks, skull_strip)
    todo = [
        ScanFiles(subject=name, image=image, brain_mask=mask, trust_grid=trust_grid)
        for name, image, mask in zip(_names(scans), scans, masks, strict=True)
    ]
    dicom = dicom_wanted(dicom, scans)
    bundle = bundle_path(bundle)
    reader = Reader.of(
        read_bundle(bundle), maps=maps, device=device, threads=threads, skull_strip=skull_strip
    )
    failures: list[str] = []
    inputs = [bundle, *filter(None, masks), *(file_and_volume(scan)[0] for scan in scans)]
    with results(out, {scan.subject: identity(scan.image) for scan in todo}, inputs):
        how = {"strict": strict, "force": force, "dicom": dicom}
        found = list(_each(reader, todo, out, failures, **how))
        add_to_summary(out, [summary(one.name, called(one.image), one.judgement) for one in found])
    if failures:
        kind = PartialFailureError if found else DataError
        raise kind(f"{len(failures)} of {len(scans)} scans skipped:\n  " + "\n  ".join(failures))
    return found


def masks_of(
    scans: Sequence[object], brain_masks: Sequence[Path] | None, skull_strip: bool | Stripping
) -> Sequence[Path | None]:
    """The brain mask of each scan, None where none is given; ``ConfigError`` when some lack one."""
    if brain_masks and len(brain_masks) != len(scans):
        raise ConfigError(
            f"brain-mask: expected one for each of the {len(scans)} scans, found {len(brain_masks)}"
        )
    if skull_strip and brain_masks:
        raise ConfigError("skull-strip: expected no brain masks beside it, found some")
    return brain_masks or [None] * len(scans)


def _each(
    reader: Reader,
    todo: Sequence[ScanFiles],
    out: Path,
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
                yield detect_scan(reader, scan, out / scan.subject, force=force, dicom=dicom)
            except Exception as error:  # one odd scan must not cost the others
                if strict:
                    raise_told(error, scan.image)
                failures.append(told(error, scan.image))
                console.print(f"[red]skipped[/] {escape(failures[-1])}", soft_wrap=True)
            bar.advance()


def detect_scan(
    reader: Reader, scan: ScanFiles, folder: Path, *, force: bool = False, dicom: bool = False
) -> Detection:
    """Judge one scan and write its folder, atomically; say aloud what qualifies the verdict.

    With ``dicom`` a DICOM series gets DICOM objects, too.

    Raises ``OutputError`` when ``folder`` holds anything but earlier results of this scan.
    """
    looked = look(reader, scan, force=force)
    with replaced(folder, "results of a scan", of=identity(scan.image)) as room:
        lacking = write_scan(room, looked, dicom=dicom)
    say_warnings(scan.subject, [*looked.warnings, *lacking])
    return Detection(scan.subject, scan.image, folder, looked.judgement)


def _names(scans: Sequence[Path]) -> list[str]:
    """A folder name for each scan that names no patient and none of our own files."""
    return names_of(scans, [Cover.of(scan) for scan in scans], RESERVED)
