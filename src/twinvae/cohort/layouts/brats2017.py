"""BraTS 2017 to 2020: one folder a patient, the contrast at the end of the file name.

The tree it expects::

    MICCAI_BraTS17_Data_Training/           2017, 2018 (Brats18_…) and 2019 (BraTS19_…) alike
      HGG/
        Brats17_CBICA_AAB_1/
          Brats17_CBICA_AAB_1_t2.nii.gz     also _t1, _t1ce, _flair and the truth, _seg
      LGG/ …
    MICCAI_BraTS2020_TrainingData/          2020; .nii in the copy on Kaggle
      BraTS20_Training_001/
        BraTS20_Training_001_t2.nii.gz
      BraTS20_Training_355/
        W39_1998.09.19_Segm.nii             the truth of this one kept its foreign name

Subject: the patient's name, `Brats17_CBICA_AAB`, with the number after it as session (2020 has
none). The grade, where folders say it, becomes a part of the source (`NAME-HGG`, `NAME-LGG`).
The scans are skull-stripped: no brain mask. The years repeat each other's patients: take one year.
Sources: med.upenn.edu/cbica/brats2020/data.html; trees and the foreign name as quoted in public
code that reads the sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twinvae.cohort.layouts.files import NIFTI, all_files, folder_above
from twinvae.cohort.layouts.naming import Naming
from twinvae.cohort.layouts.scans import Scan

_NAMING = Naming(
    r"(?P<subject>brats20_[a-z]+_\d+|brats1[789]_\w+?(?=_\d+_))(?:_(?P<session>\d+))?"
    r"_(?P<kind>t1|t1ce|t2|flair|seg)" + NIFTI
)


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether files are called `Brats17_…_t2.nii.gz` to `BraTS20_…_t2.nii.gz`."""
    return _NAMING.recognises(path, files)


def find(path: Path) -> list[Scan]:
    """Every scan of every contrast, with its truth, whatever the truth is called."""
    files = all_files(path)
    foreign: dict[str, list[str]] = {}
    for file in files:
        if "seg" in file.name.lower() and not _NAMING.match(file) and ".nii" in file.name.lower():
            foreign.setdefault(str(file.parent), []).append(str(file))
    return [
        replace(
            scan,
            part=folder_above(Path(scan.image), "HGG|LGG").upper(),
            tumour_mask=scan.tumour_mask or _foreign_truth(scan, foreign),
        )
        for scan in _NAMING.scans(files)
    ]


def _foreign_truth(scan: Scan, foreign: dict[str, list[str]]) -> str:
    """The only segmentation of another name in the patient's own folder, if there is one."""
    folder = Path(scan.image).parent
    there = foreign.get(str(folder), [])
    own = folder.name.lower().startswith(scan.subject.lower())
    return there[0] if own and len(there) == 1 else ""
