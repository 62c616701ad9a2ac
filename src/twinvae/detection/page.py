"""What a scan's page shows: its volumes as they lie in the head, and what stands out in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinvae import __version__
from twinvae.detection.bundle import Bundle
from twinvae.detection.lesions import find_lesions, level_of
from twinvae.detection.verdict import Judgement, domain_warnings
from twinvae.files import write_table
from twinvae.imaging import (
    PreparedScan,
    Volume,
    back_to_scan,
    brain_on_scan,
    read_volume,
    unit_images,
)
from twinvae.imaging.volume import turned, turned_affine
from twinvae.reporting.scan_page import (
    SLICE_COLUMNS,
    ScanMaterial,
    StandsOut,
    write_scan_page,
    write_thumbnail,
)
from twinvae.reporting.view import Layer, View
from twinvae.scoring.deciding import DecidingMap

Pictures = npt.NDArray[np.float32]
PAGE, LESIONS, THUMBNAIL = "report.html", "lesions.tsv", "thumbnail.png"
_BRIGHTEST = 99.7  # percentile of the brain's intensity that is shown white
_RESIDUAL = 99.5  # percentile of the residual's size that is shown in full colour
_LEAST_RESIDUAL = 0.05
_LEAST_TIMES = 3.0  # the map's scale goes to at least this many times its threshold


@dataclass(frozen=True)
class Seen:
    """What the models and scores made of a scan's slices."""

    healthy: Pictures
    """(n, H, W): the healthy reconstruction, in (0, 1)."""
    healthy_on_scan: Volume
    """The same on the scan's own grid, in the scan's units."""
    residual_on_scan: Volume
    """The scan less that, as the models see both."""
    deciding: DecidingMap
    map: Pictures
    """(n, H, W): the map behind the verdict's score."""


def write_page(
    room: Path,
    bundle: Bundle,
    prepared: PreparedScan,
    judgement: Judgement,
    seen: Seen,
    said: Sequence[str],
) -> None:
    """Write ``report.html``, ``lesions.tsv`` and ``thumbnail.png`` of one scan into ``room``."""
    material = page_material(bundle, prepared, judgement, seen, said)
    write_table(room / LESIONS, material.stands_out.lesions)
    write_thumbnail(material, room / THUMBNAIL)
    write_scan_page(material, room / PAGE)


def page_material(
    bundle: Bundle,
    prepared: PreparedScan,
    judgement: Judgement,
    seen: Seen,
    said: Sequence[str],
) -> ScanMaterial:
    """Everything on the page; the scan is read again, since of its voxels only slices are kept."""
    name, table, grid = bundle.config.decision.score, judgement.slices, prepared.grid
    level = level_of(bundle.calibration, table, seen.deciding.highest, seen.map, prepared.brain)
    relative = (seen.map / level.values[:, None, None] * prepared.brain).astype(np.float32)
    scan = read_volume(prepared.files.image)
    affine = turned_affine(scan.affine, grid.orientation, scan.data.shape)
    brain = turned(brain_on_scan(prepared), grid.orientation)
    on_scan = _turned(back_to_scan(relative, prepared), prepared)
    lesions, peaks = find_lesions(on_scan, brain, affine)
    slices = slice_places(prepared)
    highest = int(table["slice"].iloc[int(np.argmax(table[name]))])
    view = View(
        layers=_layers(prepared, scan, on_scan, brain, seen),
        brain=brain,
        affine=affine,
        slices=slices,
        start=peaks[0] if peaks else _middle(brain, slices.get(highest)),
    )
    return ScanMaterial(
        name=prepared.files.subject,
        verdict=judgement.verdict,
        slices=table.assign(score=table[name])[list(SLICE_COLUMNS)],
        score=name,
        images=unit_images(prepared.images),
        reconstructions=seen.healthy * prepared.brain,
        stands_out=StandsOut(
            seen.deciding.map.summary, level.says, seen.deciding.exact, relative, lesions, peaks
        ),
        view=view,
        made=_made(bundle, prepared),
        warnings=[each for each in said if each not in domain_warnings(judgement)],
        outside=judgement.outside,
    )


def _layers(
    prepared: PreparedScan,
    scan: Volume,
    relative: Pictures,
    brain: npt.NDArray[np.bool_],
    seen: Seen,
) -> list[Layer]:
    image = turned(scan.data, prepared.grid.orientation)
    inside = image[brain] if brain.any() else image
    low, high = min(0.0, float(inside.min())), float(np.percentile(inside, _BRIGHTEST))
    high = high if high > low else low + 1.0
    healthy, residual = (
        _turned(volume, prepared) for volume in (seen.healthy_on_scan, seen.residual_on_scan)
    )
    size = np.abs(residual[brain]) if brain.any() else np.zeros(1)
    limit = max(_LEAST_RESIDUAL, float(np.percentile(size, _RESIDUAL)))
    times = max(_LEAST_TIMES, float(relative.max()))
    return [
        Layer("scan", "Scan", image, low, high, "grey"),
        Layer("map", "Map behind the score", relative, 0.0, times, "heat", " × threshold"),
        Layer("residual", "Residual x − x_h", residual, -limit, limit, "signed"),
        Layer("healthy", "Healthy x_h", healthy, low, high, "grey"),
        Layer("brain", "Brain mask", brain, 0.0, 1.0, "mask"),
    ]


def _turned(volume: Volume, prepared: PreparedScan) -> Pictures:
    return turned(volume.data, prepared.grid.orientation)


def slice_places(prepared: PreparedScan) -> Mapping[int, int]:
    """Number of each slice → its voxel along z of the scan, its axes turned to RAS."""
    numbers = prepared.index["slice"].to_numpy(np.int64)
    if prepared.grid.moved is None:
        return {int(number): int(number) for number in numbers}
    # On a template's grid slices lie at an angle to the scan's: the middle of each counts.
    marks = np.ones_like(prepared.images, np.float32) * (numbers[:, None, None] + 1)
    there = np.rint(_turned(back_to_scan(marks, prepared), prepared)).astype(np.int64) - 1
    z = np.broadcast_to(np.arange(there.shape[2]), there.shape)
    return {
        int(number): int(np.median(z[there == number]))
        for number in numbers
        if (there == number).any()
    }


def _middle(brain: npt.NDArray[np.bool_], z: int | None) -> tuple[int, int, int]:
    """The middle of the brain, in the slice ``z`` where that is given."""
    x, y, middle = (
        int(np.median(np.flatnonzero(brain.any(axis=axes)))) if brain.any() else size // 2
        for axes, size in zip(((1, 2), (0, 2), (0, 1)), brain.shape, strict=True)
    )
    return x, y, middle if z is None else z


def _made(bundle: Bundle, prepared: PreparedScan) -> dict[str, object]:
    return {
        "Scan": prepared.files.image, "Bundle": bundle.config.name, "twinvae": __version__
    }  # fmt: skip
