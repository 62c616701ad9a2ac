"""ISLES-2015, ischaemic stroke: the sub-challenges SISS and SPES, as SMIR shipped them.

The tree it expects::

    SISS2015_Training/
      1/                                                              a patient
        VSD.Brain.XX.O.MR_T2.70616/VSD.Brain.XX.O.MR_T2.70616.nii     also MR_T1, MR_Flair, MR_DWI
        VSD.Brain.XX.O.OT.70617/VSD.Brain.XX.O.OT.70617.nii           the lesion
    SPES2015_Training/
      1/ …                             MR_T2, MR_T1c, MR_DWI, MR_CBF, MR_CBV, MR_TTP, MR_Tmax, OT

Subject: the folders' names together, `SISS2015_Training_1`, since every set counts from 1 (without
such a folder above, `SISS_1` or `SPES_1` by the contrasts there are). Every label of the truth
counts (SPES marks core and penumbra). The scans are skull-stripped: no brain mask. Sources: Maier
et al., Medical Image Analysis 2017; trees quoted in public code; for SPES only the contrasts' names
were found there, so its folders are taken to be nested like those of SISS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from twinvae.cohort.layouts.files import all_files, folder_above
from twinvae.cohort.layouts.scans import Scan
from twinvae.cohort.layouts.vsd import Case, vsd_cases

_SET = r"(?:SISS|SPES)2015_\w+"


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether a folder of VSD files holds diffusion-weighted images; BRATS never does."""
    del path
    return any(_is_stroke(case) for case in vsd_cases(files))


def find(path: Path) -> list[Scan]:
    """Every scan of every contrast, with its lesion."""
    return [
        Scan(
            subject=_subject(case),
            contrast=contrast,
            image=str(image),
            tumour_mask=str(case.truth or ""),
        )
        for case in vsd_cases(all_files(path))
        if _is_stroke(case)
        for contrast, image in case.images.items()
    ]


def _is_stroke(case: Case) -> bool:
    return "DWI" in {contrast.upper() for contrast in case.images}


def _subject(case: Case) -> str:
    names = {contrast.upper() for contrast in case.images}
    challenge = "SPES" if names & {"CBF", "CBV", "TTP", "TMAX", "T1C"} else "SISS"
    above = folder_above(case.folder, _SET) or challenge
    return re.sub(r"\s+", "_", f"{above}_{case.folder.name}")
