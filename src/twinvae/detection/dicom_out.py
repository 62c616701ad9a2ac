"""Whether, and from what, a scan's DICOM objects are written: those of ``dicom_objects``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twinvae import __version__
from twinvae.decision import STATISTICS
from twinvae.detection.bundle import Bundle
from twinvae.detection.privacy import Cover, is_dicom_scan
from twinvae.detection.regions import (
    LEAST_ML,
    Regions,
    excess_on_scan,
    find_regions,
    region_levels,
)
from twinvae.detection.verdict import Judgement
from twinvae.dicom import series_frames
from twinvae.dicom.headers import quiet
from twinvae.errors import ConfigError, DataError, reason_of
from twinvae.files import digest, file_and_volume
from twinvae.imaging import PreparedScan, Volume, back_to_scan, read_volume, unit_images
from twinvae.progress import say
from twinvae.reporting.key_slices import draw_key_slice, key_slices
from twinvae.reporting.style import residual_limit

if TYPE_CHECKING:  # highdicom may not be there
    from twinvae.detection.dicom_objects import Finding, Source

FOLDER = "dicom"
_INSTALL = 'pip install "twinvae[dicom]"'


@dataclass(frozen=True)
class Found:
    """A judged scan and what the pictures need; maps float32 (n, H, W), one a prepared slice."""

    bundle: Bundle
    prepared: PreparedScan
    judgement: Judgement
    healthy: NDArray[np.float32]
    """The healthy reconstruction."""
    deciding: NDArray[np.float32] | None
    """The map that the score is the maximum of; None when it is none of a map."""
    said: Sequence[str]
    """What qualifies the verdict."""


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


def dicom_beside(folder: Path, found: Found) -> list[str]:
    """Write the objects of a scan into the new folder ``folder``, or say why there are none.

    A series that lacks what its objects must refer to loses these, never its verdict.
    """
    folder.mkdir()
    try:
        write_dicom(folder, found)
    except Exception as error:  # whatever odd headers make highdicom raise
        shutil.rmtree(folder)
        image = found.prepared.files.image
        reason = Cover.of(image).text(reason_of(error, image))
        return [f"No DICOM objects were written: {reason}"]
    return []


def write_dicom(folder: Path, found: Found) -> None:
    """Write ``seg.dcm`` (where there are regions), ``sr.dcm`` and ``sc-N.dcm`` into ``folder``.

    Raises ``DataError`` when the series lacks what its objects must refer to.
    """
    from twinvae.detection import dicom_objects as objects

    file, uid = file_and_volume(found.prepared.files.image)
    source = objects.Source.read(series_frames(file, None if uid is None else str(uid)))
    regions, heat, level = _on_scan(found)
    if regions.labels.shape[2] != len(source.frames):
        raise DataError(f"{file}: expected {regions.labels.shape[2]} slices, found another number")
    finding = _finding(found)
    with quiet():  # pydicom remarks on the source's own values, which are copied as they are
        segments = None
        if regions.volumes_ml:
            segments = objects.segmentation(source, regions, finding)
            segments.save_as(folder / "seg.dcm")
        objects.report(source, segments, regions, finding).save_as(folder / "sr.dcm")
        pictures = _pictures(found, source, finding, regions, heat, level)
        for number, image in enumerate(objects.captures(source, pictures, finding), start=1):
            image.save_as(folder / f"sc-{number}.dcm")


def _on_scan(found: Found) -> tuple[Regions, Volume, float]:
    """The regions, the map that the pictures show, and from which value on it counts."""
    prepared, judgement, config = found.prepared, found.judgement, found.bundle.config
    if found.deciding is None:
        residual = np.abs(unit_images(prepared.images) - found.healthy)
        heat = back_to_scan(residual, prepared)
        return _no_regions(heat), heat, residual_limit(residual) / 2
    heat = back_to_scan(found.deciding, prepared)
    levels = region_levels(
        found.deciding, config.decision.score, judgement, prepared, config.scoring
    )
    regions = _no_regions(heat)
    if judgement.verdict is not None and judgement.verdict.abnormal:
        regions = find_regions(excess_on_scan(found.deciding, levels, prepared))
    finite = levels[np.isfinite(levels)]
    return regions, heat, float(np.median(finite)) if finite.size else float(heat.data.max())


def _no_regions(heat: Volume) -> Regions:
    return Regions(np.zeros(heat.data.shape, np.int32), ())


def _finding(found: Found) -> Finding:
    from twinvae.detection.dicom_objects import Finding

    bundle, verdict = found.bundle, found.judgement.verdict
    name = bundle.config.decision.score
    how = f"regions: none, since {name} is no maximum of a map"
    if found.deciding is not None:
        how = (
            f"regions: only of a scan called abnormal; connected voxels where the smoothed map of "
            f"{name} reaches the threshold for single slices, from {LEAST_ML} ml up; no outline "
            f"of a lesion"
        )
    return Finding(
        bundle=bundle.config.name,
        bundle_version=f"{bundle.about['twinvae']}-{digest(bundle.about['files'])}",
        score=name,
        verdict=found.judgement.word,
        statistic="" if verdict is None else STATISTICS[verdict.statistic].summary,
        value=None if verdict is None else verdict.value,
        threshold=None if verdict is None else verdict.threshold,
        how=(how, *found.said),
    )


def _pictures(
    found: Found, source: Source, finding: Finding, regions: Regions, heat: Volume, level: float
) -> dict[int, NDArray[np.uint8]]:
    """Pictures of the key slices by their place along Z."""
    from twinvae.detection.dicom_objects import MARK

    scan = read_volume(found.prepared.files.image).data
    low, high = np.percentile(scan[scan > 0] if (scan > 0).any() else scan, (1, 99.5))
    columns, rows = source.frames[0].spacing
    verdict = f"verdict: {finding.verdict}"
    if finding.value is not None and finding.threshold is not None:
        verdict += f" ({finding.value:.3g}, threshold {finding.threshold:.3g})"
    made = f"twinvae {__version__}, bundle {finding.bundle}"
    return {
        place: draw_key_slice(
            np.clip((scan[:, :, place].T - low) / max(high - low, 1e-12), 0, 1),
            heat.data[:, :, place].T,
            regions.labels[:, :, place].T > 0,
            level=max(level, 1e-12),
            aspect=float(rows / columns),
            above=MARK,
            below=f"{made}\nslice {place + 1} of {len(source.frames)}; {verdict}",
        )
        for place in key_slices(heat.data, regions.labels)
    }
