"""Medical Segmentation Decathlon, Task01_BrainTumour: BraTS patients, four contrasts a file.

The tree it expects::

    Task01_BrainTumour/
      dataset.json                  "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
      imagesTr/BRATS_001.nii.gz     4-D: one volume a contrast, in the order dataset.json names
      labelsTr/BRATS_001.nii.gz     3-D: the truth
      imagesTs/BRATS_485.nii.gz     without truth

The manifest's image is `imagesTr/BRATS_001.nii.gz#3`: volume 3, counted from 0 (T2w). Subject:
`BRATS_001`. The scans are skull-stripped: no brain mask. The patients are BraTS's, renamed: do not
pool the two. Sources: medicaldecathlon.com; Antonelli et al., Nature Communications 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twinvae.cohort.layouts.scans import Scan
from twinvae.errors import DataError
from twinvae.files import read_json

_SETS = {"imagesTr": "labelsTr", "imagesTs": ""}
_ENDINGS = (".nii.gz", ".nii")


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether there are a dataset.json that names contrasts and a folder imagesTr."""
    del files
    try:
        return (path / "imagesTr").is_dir() and bool(_contrasts(path))
    except DataError:
        return False


def find(path: Path) -> list[Scan]:
    """Every volume of every image, with the image's truth."""
    path = path.absolute()
    contrasts = _contrasts(path)
    scans = []
    for images, labels in _SETS.items():
        for file in sorted((path / images).glob("[!.]*.nii*")):
            ending = next((e for e in _ENDINGS if file.name.lower().endswith(e)), None)
            if ending is None:
                continue
            truth = path / labels / file.name
            scans += [
                Scan(
                    subject=file.name[: -len(ending)],
                    contrast=contrast,
                    image=f"{file}#{number}" if len(contrasts) > 1 else str(file),
                    tumour_mask=str(truth) if labels and truth.is_file() else "",
                )
                for number, contrast in contrasts.items()
            ]
    return scans


def _contrasts(path: Path) -> dict[int, str]:
    """What each volume of an image shows."""
    file = path / "dataset.json"
    values: Any = read_json(file)
    try:
        return {int(number): str(name) for number, name in values["modality"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f'{file}: expected "modality" to name the contrasts by number') from None
