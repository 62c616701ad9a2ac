"""BRATS-2015, the paper's mixed source, as the Virtual Skeleton Database shipped it.

The tree it expects::

    BRATS2015_Training/
      HGG/                                         high grade, 220 scans; LGG has 54
        brats_tcia_pat153_0109/
          VSD.Brain.XX.O.MR_T2.42324/VSD.Brain.XX.O.MR_T2.42324.mha   MR_T1, MR_T1c, MR_Flair
          VSD.Brain_3more.XX.O.OT.42325/VSD.Brain_3more.XX.O.OT.42325.mha the truth
        brats_tcia_pat153_0165/ …                                         the same patient again
        brats_2013_pat0001_1/ …
      LGG/ …

Subject: `brats_tcia_pat153`; session: the scan number, `0109`. A patient's scans share one subject,
so splits never tear a patient apart; the paper's 274 "patients" are scans. The grade becomes a part
of the source (`NAME-HGG`, `NAME-LGG`). The scans are skull-stripped: no brain mask. Facts about
names: Menze et al., IEEE TMI 2015, and trees quoted in public code that reads the set (pat153 alone
occurs as scans 0002, 0109, 0165, 0181, 0277 and 0294).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from twinvae.cohort.layouts.files import all_files, folder_above
from twinvae.cohort.layouts.scans import Scan
from twinvae.cohort.layouts.vsd import vsd_cases

_CASE = re.compile(r"(brats_(?:tcia|2013)_pat\d+)_(\w+)", re.IGNORECASE)


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether VSD files lie in folders called `brats_tcia_pat…` or `brats_2013_pat…`."""
    del path
    return any(_CASE.fullmatch(case.folder.name) for case in vsd_cases(files))


def find(path: Path) -> list[Scan]:
    """Every scan of every contrast, with its truth."""
    scans = []
    for case in vsd_cases(all_files(path)):
        match = _CASE.fullmatch(case.folder.name)
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
