"""Everything that is written about one scan that was looked at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinvae.detection.dicom_out import FOLDER, dicom_beside
from twinvae.detection.look import Looked
from twinvae.detection.page import write_page
from twinvae.detection.privacy import is_dicom_scan
from twinvae.detection.results import for_people
from twinvae.detection.verdict import verdict_json
from twinvae.files import write_json, write_table
from twinvae.imaging import (
    Volume,
    back_to_scan,
    in_scan_units,
    unit_images,
    whole_brain_on_scan,
    write_volume,
)
from twinvae.imaging.nifti import write_nifti
from twinvae.imaging.volume import turned_back

_FILES = {"residual": "residual_positive"}  # residual.nii.gz, the signed one, is always written


def write_scan(room: Path, looked: Looked, *, dicom: bool = False, bids: bool = False) -> list[str]:
    """Write the verdict, the slices, the maps and the page of one scan into the folder ``room``.

    With ``bids`` also what stands out as images; with ``dicom`` a DICOM series gets DICOM objects,
    too; returns why it does not, if so.
    """
    volumes = volumes_of(looked)
    with ThreadPoolExecutor() as pool:  # maps are packed while the rest is made
        files = [pool.submit(write_volume, v, room / f"{n}.nii.gz") for n, v in volumes.items()]
        write_table(room / "slices.tsv", for_people(looked.judgement.slices))
        verdict = {"scan": looked.called, **verdict_json(looked.judgement, looked.bundle)}
        write_json(room / "verdict.json", verdict)
        if looked.bundle.recipe.strips:
            mask = whole_brain_on_scan(looked.prepared).astype(np.float32)
            write_volume(Volume(mask, looked.prepared.grid.affine), room / "brain_mask.nii.gz")
        write_page(room, looked, volumes["healthy"], volumes["residual"])
        for done in files:
            done.result()
    if bids:
        write_volume(map_on_scan(looked), room / "abnormality.nii.gz")
        write_nifti(room / "lesions.nii.gz", *_lesions_on_scan(looked))
    if dicom and is_dicom_scan(looked.prepared.files.image):
        return dicom_beside(room / FOLDER, looked)
    return []


def volumes_of(looked: Looked) -> dict[str, Volume]:
    """The maps on the scan's own grid, by file name; zero outside the brain and in other slices."""
    prepared, healthy = looked.prepared, looked.healthy
    residual = unit_images(prepared.images) - healthy
    return {
        "healthy": in_scan_units(back_to_scan(healthy, prepared), prepared),
        "residual": back_to_scan(residual, prepared),
        **{_FILES.get(n, n): back_to_scan(values, prepared) for n, values in looked.maps.items()},
    }


def map_on_scan(looked: Looked) -> Volume:
    """The map behind the score in times its threshold, on the scan's own grid."""
    grid = looked.prepared.grid
    return Volume(turned_back(looked.places.on_scan, grid.orientation), grid.affine)


def _lesions_on_scan(looked: Looked) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """0, or the number of a lesion, on the scan's own grid; and its affine."""
    grid = looked.prepared.grid
    labels = turned_back(looked.places.lesions.labels, grid.orientation).astype(np.int16)
    return labels, grid.affine
