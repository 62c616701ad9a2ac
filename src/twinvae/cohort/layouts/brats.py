"""BRATS and BraTS of every year, and gliomas shipped in their manner: the Decathlon's, TCGA-LGG."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinvae.cohort.layouts.naming import NIFTI, Naming, all_files, folder_above
from twinvae.cohort.layouts.scans import Scan
from twinvae.cohort.layouts.vsd import vsd_cases
from twinvae.errors import DataError
from twinvae.files import read_json

_BRATS2015 = re.compile(r"(brats_(?:tcia|2013)_pat\d+)_(\w+)", re.IGNORECASE)


def is_brats2015(path: Path, files: Sequence[Path]) -> bool:
    """Whether VSD files lie in folders called `brats_tcia_pat…` or `brats_2013_pat…`."""
    del path
    return any(_BRATS2015.fullmatch(case.folder.name) for case in vsd_cases(files))


def find_brats2015(path: Path) -> list[Scan]:
    """BRATS-2015, the paper's mixed source, as the Virtual Skeleton Database shipped it.

    The tree it expects::

        BRATS2015_Training/
          HGG/                                         high grade, 220 scans; LGG has 54
            brats_tcia_pat153_0109/
              VSD.Brain.XX.O.MR_T2.42324/VSD.Brain.XX.O.MR_T2.42324.mha   MR_T1, MR_T1c, MR_Flair
              VSD.Brain_3more.XX.O.OT.42325/VSD.Brain_3more.XX.O.OT.42325.mha  the truth
            brats_tcia_pat153_0165/ …                                     the same patient again
            brats_2013_pat0001_1/ …
          LGG/ …

    Subject: `brats_tcia_pat153`; session: the scan number, `0109`. A patient's scans share one
    subject, so splits never tear a patient apart; the paper's 274 "patients" are scans. The grade
    becomes a part of the source (`NAME-HGG`, `NAME-LGG`). The scans are skull-stripped: no brain
    mask. Facts about names: Menze et al., IEEE TMI 2015, and trees quoted in public code that reads
    the set (pat153 alone occurs as scans 0002, 0109, 0165, 0181, 0277 and 0294).
    """
    scans = []
    for case in vsd_cases(all_files(path)):
        match = _BRATS2015.fullmatch(case.folder.name)
        if match is None:
            continue
        scans += [
            Scan(
                subject=match[1],
                session=match[2],
                contrast=contrast,
                image=str(image),
                tumour_mask=str(case.truth or ""),
                part=folder_above(image, "HGG|LGG").upper(),
            )
            for contrast, image in case.images.items()
        ]
    return scans


_BRATS2017 = Naming(
    r"(?P<subject>brats20_[a-z]+_\d+|brats1[789]_\w+?(?=_\d+_))(?:_(?P<session>\d+))?"
    r"_(?P<kind>t1|t1ce|t2|flair|seg)" + NIFTI
)


def is_brats2017(path: Path, files: Sequence[Path]) -> bool:
    """Whether files are called `Brats17_…_t2.nii.gz` to `BraTS20_…_t2.nii.gz`."""
    return _BRATS2017.recognises(path, files)


def find_brats2017(path: Path) -> list[Scan]:
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
    The scans are skull-stripped: no brain mask. The years repeat each other's patients: take one
    year. Sources: med.upenn.edu/cbica/brats2020/data.html; trees and the foreign name as quoted in
    public code that reads the sets.
    """
    files = all_files(path)
    foreign: dict[str, list[str]] = {}
    for file in files:
        name = file.name.lower()
        if "seg" in name and ".nii" in name and not _BRATS2017.match(file):
            foreign.setdefault(str(file.parent), []).append(str(file))
    return [
        replace(
            scan,
            part=folder_above(Path(scan.image), "HGG|LGG").upper(),
            tumour_mask=scan.tumour_mask or _foreign_truth(scan, foreign),
        )
        for scan in _BRATS2017.scans(files)
    ]


def _foreign_truth(scan: Scan, foreign: dict[str, list[str]]) -> str:
    """The only segmentation of another name in the patient's own folder, if there is one."""
    folder = Path(scan.image).parent
    there = foreign.get(str(folder), [])
    own = folder.name.lower().startswith(scan.subject.lower())
    return there[0] if own and len(there) == 1 else ""


BRATS2021 = Naming(r"(?P<subject>brats2021_\d+)_(?P<kind>t1|t1ce|t2|flair|seg)" + NIFTI)
"""BraTS 2021 (RSNA-ASNR-MICCAI): one folder a patient.

The tree it expects::

    BraTS2021_Training_Data/
      BraTS2021_00006/
        BraTS2021_00006_t2.nii.gz      also _t1, _t1ce, _flair and the truth, _seg

Subject: `BraTS2021_00006`; one visit each. Skull-stripped: no brain mask. Source: Baid et al.,
arXiv 2107.02314, and the files themselves.
"""

BRATS2023 = Naming(
    r"(?P<subject>brats-[a-z]+-\d+)-(?P<session>\d+)-(?P<kind>t1n|t1c|t2w|t2f|seg)" + NIFTI
)
"""BraTS 2023 and later: gliomas (GLI), metastases (MET), meningiomas (MEN), children (PED), SSA.

The tree it expects::

    ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/
      BraTS-GLI-00000-000/
        BraTS-GLI-00000-000-t2w.nii.gz      also -t1n, -t1c, -t2f (FLAIR) and the truth, -seg
      BraTS-GLI-00000-001/ …                the same patient's next visit

Subject: `BraTS-GLI-00000`; session: the visit, `000`. Skull-stripped: no brain mask. Sources: the
challenge's pages on synapse.org, trees quoted in public code, and the files themselves.
"""

TCGA_LGG = Naming(
    r"(?P<subject>TCGA_\w{2}_\w{4})_(?P<session>\d{8})"
    r"_(?P<kind>flair|t1|t1w|t1gd|t1ce|t2|t2w|seg|mask)" + NIFTI,
    tumour=("seg", "mask"),
)
"""TCGA-LGG, low-grade gliomas: the segmentation set of Buda et al. 2019 as NIfTI volumes.

The tree it expects::

    lgg/
      TCGA_CS_6290_20000917/
        TCGA_CS_6290_20000917_flair.nii.gz
        TCGA_CS_6290_20000917_seg.nii.gz       the truth; `_mask` is read too

The set is published as one TIFF a slice under the same names
(`TCGA_CS_6290_20000917_1.tif`, `…_1_mask.tif`); stack them into volumes first. Subject: the TCGA
patient, `TCGA_CS_6290`; session: the date, `20000917`. The scans show skulls. Source: Buda et al.,
Computers in Biology and Medicine 2019; the Cancer Imaging Archive, TCGA-LGG.
"""

_DECATHLON = {"imagesTr": "labelsTr", "imagesTs": ""}
_NIFTI_ENDINGS = (".nii.gz", ".nii")


def is_msd(path: Path, files: Sequence[Path]) -> bool:
    """Whether there are a dataset.json that names contrasts and a folder imagesTr."""
    del files
    try:
        return (path / "imagesTr").is_dir() and bool(_decathlon_contrasts(path))
    except DataError:
        return False


def find_msd(path: Path) -> list[Scan]:
    """Medical Segmentation Decathlon, Task01_BrainTumour: BraTS patients, four contrasts a file.

    The tree it expects::

        Task01_BrainTumour/
          dataset.json               "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
          imagesTr/BRATS_001.nii.gz  4-D: one volume a contrast, in the order dataset.json names
          labelsTr/BRATS_001.nii.gz  3-D: the truth
          imagesTs/BRATS_485.nii.gz  without truth

    The manifest's image is `imagesTr/BRATS_001.nii.gz#3`: volume 3, counted from 0 (T2w). Subject:
    `BRATS_001`. The scans are skull-stripped: no brain mask. The patients are BraTS's, renamed: do
    not pool the two. Sources: medicaldecathlon.com; Antonelli et al., Nature Communications 2022.
    """
    path = path.absolute()
    contrasts = _decathlon_contrasts(path)
    scans = []
    for images, labels in _DECATHLON.items():
        for file in sorted((path / images).glob("[!.]*.nii*")):
            ending = next((e for e in _NIFTI_ENDINGS if file.name.lower().endswith(e)), None)
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


def _decathlon_contrasts(path: Path) -> dict[int, str]:
    """What each volume of an image shows."""
    file = path / "dataset.json"
    values: Any = read_json(file)
    try:
        return {int(number): str(name) for number, name in values["modality"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f'{file}: expected "modality" to name the contrasts by number') from None
