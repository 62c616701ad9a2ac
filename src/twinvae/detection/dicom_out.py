"""Whether, and from what, a scan's DICOM objects are written: those of ``dicom_objects``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinvae import __version__
from twinvae.decision import STATISTICS
from twinvae.detection.lesions import LEAST_ML
from twinvae.detection.look import Looked
from twinvae.detection.privacy import is_dicom_scan, told
from twinvae.dicom import series_frames
from twinvae.dicom.headers import quiet
from twinvae.errors import ConfigError, DataError
from twinvae.files import digest, file_and_volume
from twinvae.imaging import read_volume
from twinvae.imaging.volume import turned_back
from twinvae.progress import say

if TYPE_CHECKING:  # highdicom may not be there
    from twinvae.detection.dicom_objects import Finding, Regions, Source

FOLDER = "dicom"
_INSTALL = 'pip install "twinvae[dicom]"'


def dicom_wanted(asked: bool | None, scans: Sequence[Path]) -> bool:
    """Whether DICOM objects are to be written; said aloud when they would be but cannot.

    ``asked``: None, the default, where the input is DICOM and highdicom is installed. Raises
    ``ConfigError`` when they were asked for and cannot be written for any of ``scans``.
    """
    if asked is False:
        return False
    if not any(map(is_dicom_scan, scans)):
        if asked:
            raise ConfigError("dicom: expected a DICOM series among the scans, found none")
        return False
    if find_spec("highdicom") is None:
        if asked:
            raise ConfigError(f"dicom: expected highdicom to be installed, found none: {_INSTALL}")
        say(f"No DICOM objects are written: highdicom is not installed ({_INSTALL}).")
        return False
    return True


def dicom_beside(folder: Path, looked: Looked) -> list[str]:
    """Write the objects of a scan into the new folder ``folder``, or say why there are none.

    A series that lacks what its objects must refer to loses these, never its verdict.
    """
    folder.mkdir()
    try:
        write_dicom(folder, looked)
    except Exception as error:  # whatever odd headers make highdicom raise
        shutil.rmtree(folder)
        return [f"No DICOM objects were written: {told(error, looked.prepared.files.image)}"]
    return []


def write_dicom(folder: Path, looked: Looked) -> None:
    """Write ``seg.dcm`` (where there are regions), ``sr.dcm`` and ``sc-N.dcm`` into ``folder``.

    Raises ``DataError`` when the series lacks what its objects must refer to.
    """
    from twinvae.detection import dicom_objects as objects

    file, uid = file_and_volume(looked.prepared.files.image)
    source = objects.Source.read(series_frames(file, None if uid is None else str(uid)))
    regions, finding = _regions(looked), _finding(looked)
    if regions.labels.shape[2] != len(source.frames):
        raise DataError(f"{file}: expected {regions.labels.shape[2]} slices, found another number")
    with quiet():  # pydicom remarks on the source's own values, which are copied as they are
        segments = None
        if regions.places:
            segments = objects.segmentation(source, regions, finding)
            segments.save_as(folder / "seg.dcm")
        objects.report(source, segments, regions, finding).save_as(folder / "sr.dcm")
        pictures = _pictures(looked, source, finding, regions)
        for number, image in enumerate(objects.captures(source, pictures, finding), start=1):
            image.save_as(folder / f"sc-{number}.dcm")


def _regions(looked: Looked) -> Regions:
    """The places of lesions.tsv on the scan's own voxels; none of a scan not called abnormal."""
    from twinvae.detection.dicom_objects import Regions

    verdict, found = looked.judgement.verdict, looked.places.lesions
    labels = turned_back(found.labels, looked.prepared.grid.orientation)
    if verdict is None or not verdict.abnormal:
        return Regions(np.zeros_like(labels), (), ())
    volumes = tuple(float(ml) for ml in found.table["volume_ml"])
    return Regions(labels, tuple(map(str, found.table["place"])), volumes)


def _finding(looked: Looked) -> Finding:
    from twinvae.detection.dicom_objects import Finding

    bundle, verdict, places = looked.bundle, looked.judgement.verdict, looked.places
    regions = (
        f"regions: only of a scan called abnormal; connected voxels where a map reaches its "
        f"threshold, from {LEAST_ML} ml up; places to look at, no outline of a lesion"
    )
    none = "" if places.deciding.exact else "; the score itself has no map"
    return Finding(
        bundle=bundle.config.name,
        bundle_version=f"{bundle.about['twinvae']}-{digest(bundle.about['files'])}",
        score=bundle.config.decision.score,
        verdict=looked.judgement.word,
        statistic="" if verdict is None else STATISTICS[verdict.statistic].summary,
        value=None if verdict is None else verdict.value,
        threshold=None if verdict is None else verdict.threshold,
        how=(
            regions,
            f"map: {places.deciding.map.summary}{none}",
            places.level.says,
            *looked.warnings,
        ),
    )


def _pictures(
    looked: Looked, source: Source, finding: Finding, regions: Regions
) -> dict[int, NDArray[np.uint8]]:
    """Pictures of the key slices by their place along Z."""
    from twinvae.detection.dicom_objects import MARK
    from twinvae.reporting.key_slices import draw_key_slice, key_slices

    heat = turned_back(looked.places.on_scan, looked.prepared.grid.orientation)
    scan = read_volume(looked.prepared.files.image).data
    low, high = np.percentile(scan[scan > 0] if (scan > 0).any() else scan, (1, 99.5))
    columns, rows = source.frames[0].spacing
    verdict = f"verdict: {finding.verdict}"
    if finding.value is not None and finding.threshold is not None:
        verdict += f" ({finding.value:.3g}, threshold {finding.threshold:.3g})"
    made = f"twinvae {__version__}, bundle {finding.bundle}"
    return {
        place: draw_key_slice(
            np.clip((scan[:, :, place].T - low) / max(high - low, 1e-12), 0, 1),
            heat[:, :, place].T,
            regions.labels[:, :, place].T > 0,
            aspect=float(rows / columns),
            above=MARK,
            below=f"{made}\nslice {place + 1} of {len(source.frames)}; {verdict}",
        )
        for place in key_slices(heat, regions.labels)
    }
