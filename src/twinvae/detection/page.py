"""What a scan's page shows: its volumes as they lie in the head, and what stands out in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinvae import __version__
from twinvae.detection.lesions import Places
from twinvae.detection.look import Looked
from twinvae.detection.place import PAGE, THUMBNAIL
from twinvae.detection.verdict import domain_warnings
from twinvae.files import write_table
from twinvae.imaging import (
    PreparedScan,
    Volume,
    back_to_scan,
    unit_images,
    whole_brain_on_scan,
)
from twinvae.imaging.volume import turned
from twinvae.reporting.mask_outline import MaskedHead
from twinvae.reporting.scan_page import (
    SLICE_COLUMNS,
    ScanMaterial,
    StandsOut,
    write_scan_page,
    write_thumbnail,
)
from twinvae.reporting.view import Layer, View

Pictures = npt.NDArray[np.float32]
LESIONS = "lesions.tsv"
_BRIGHTEST = 99.7  # percentile of the brain's intensity that is shown white
_RESIDUAL = 99.5  # percentile of the residual's size that is shown in full colour
_LEAST_RESIDUAL = 0.05
_LEAST_TIMES = 3.0  # the map's scale goes to at least this many times its threshold


def write_page(room: Path, looked: Looked, healthy: Volume, residual: Volume) -> None:
    """Write ``report.html``, ``lesions.tsv`` and ``thumbnail.png`` of one scan into ``room``.

    ``healthy``: the reconstruction on the scan's own grid, in the scan's units; ``residual``: the
    scan less that, as the models see both.
    """
    material = page_material(looked, healthy, residual)
    write_table(room / LESIONS, material.stands_out.lesions)
    write_thumbnail(material, room / THUMBNAIL)
    write_scan_page(material, room / PAGE)


def page_material(looked: Looked, healthy: Volume, residual: Volume) -> ScanMaterial:
    """Everything on the page; the scan is read again, since of its voxels only slices are kept."""
    prepared, judgement, places = looked.prepared, looked.judgement, looked.places
    name, table = looked.bundle.config.decision.score, judgement.slices
    slices, lesions = slice_places(prepared), places.lesions
    image = _turned(prepared.files.read(), prepared)
    highest = int(table["slice"].iloc[int(np.argmax(table[name]))])
    view = View(
        layers=_layers(image, prepared, places, healthy, residual),
        brain=places.brain,
        affine=places.affine,
        slices=slices,
        start=lesions.peaks[0] if lesions.peaks else _middle(places.brain, slices.get(highest)),
    )
    deciding = places.deciding
    return ScanMaterial(
        name=looked.name,
        verdict=judgement.verdict,
        slices=table.assign(score=table[name])[list(SLICE_COLUMNS)],
        score=name,
        images=unit_images(prepared.images),
        reconstructions=looked.healthy * prepared.brain,
        stands_out=StandsOut(
            deciding.map.summary, places.level.says, deciding.exact, places.relative,
            lesions.table, lesions.peaks,
        ),
        view=view,
        made=_made(looked),
        warnings=[each for each in looked.warnings if each not in domain_warnings(judgement)],
        outside=judgement.outside,
        head=_masked_head(image, looked) if looked.bundle.recipe.strips else None,
    )  # fmt: skip


def _masked_head(image: Pictures, looked: Looked) -> MaskedHead:
    """The whole head, and the mask that was found in it."""
    brain = turned(whole_brain_on_scan(looked.prepared), looked.prepared.grid.orientation)
    return MaskedHead(image, brain, np.linalg.norm(looked.places.affine[:3, :3], axis=0))


def _layers(
    image: Pictures, prepared: PreparedScan, places: Places, healthy: Volume, residual: Volume
) -> list[Layer]:
    brain, relative = places.brain, places.on_scan
    inside = _of_brain(image, brain) if brain.any() else image
    low, high = min(0.0, float(inside.min())), float(np.percentile(inside, _BRIGHTEST))
    high = high if high > low else low + 1.0
    difference = _turned(residual, prepared)
    size = np.abs(_of_brain(difference, brain)) if brain.any() else np.zeros(1)
    limit = max(_LEAST_RESIDUAL, float(np.percentile(size, _RESIDUAL)))
    times = max(_LEAST_TIMES, float(relative.max()))
    return [
        Layer("scan", "Scan", image, low, high, "grey"),
        Layer("map", "Map behind the score", relative, 0.0, times, "heat", " × threshold"),
        Layer("residual", "Residual x − x_h", difference, -limit, limit, "signed"),
        Layer("healthy", "Healthy x_h", _turned(healthy, prepared), low, high, "grey"),
        Layer("brain", "Brain mask", brain, 0.0, 1.0, "mask"),
    ]


def _of_brain(values: Pictures, brain: npt.NDArray[np.bool_]) -> Pictures:
    """The brain's values, of arrays in which x runs fastest, in the order of the memory."""
    return values.T[brain.T]


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


def _made(looked: Looked) -> dict[str, object]:
    return {"Scan": looked.called, "Bundle": looked.bundle.config.name, "twinvae": __version__}
