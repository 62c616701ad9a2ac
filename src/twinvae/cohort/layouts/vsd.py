"""How the Virtual Skeleton Database (SMIR) shipped BRATS-2012…2015 and ISLES-2015, and the latter.

Each image lies in a folder of its own name inside the folder of its case::

    CASE/VSD.Brain.XX.O.MR_T2.54515/VSD.Brain.XX.O.MR_T2.54515.mha      the contrast after MR_
    CASE/VSD.Brain_3more.XX.O.OT.54517/VSD.Brain_3more.XX.O.OT.54517.mha      OT: the truth

Copies without the inner folders, with `SMIR` instead of `VSD`, or converted to NIfTI are about and
are read too. Where a case has several truths (two raters), the one with the lowest number is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twinvae.cohort.layouts.naming import all_files, folder_above
from twinvae.cohort.layouts.scans import Scan

_PREFIX = r"(?:VSD|SMIR)\.Brain"
_FILE = re.compile(
    _PREFIX + r"[^.]*(?:\.(?:XX|O))+\.(?:MR_)?(?P<kind>\w+)\.(?P<number>\d+)\.(?:mha|nii|nii\.gz)",
    re.IGNORECASE,
)
_TRUTH = "ot"


@dataclass
class Case:
    """One folder of images of one person."""

    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    """By contrast, as in the file name."""
    truth: Path | None = None


def vsd_cases(files: Iterable[Path]) -> list[Case]:
    """The cases that ``files`` (sorted) make up."""
    cases: dict[Path, Case] = {}
    numbers: dict[Path, int] = {}
    for file in files:
        match = _FILE.fullmatch(file.name)
        if match is None:
            continue
        inner = re.match(_PREFIX, file.parent.name, re.IGNORECASE)
        folder = file.parent.parent if inner else file.parent
        case = cases.setdefault(folder, Case(folder))
        number = int(match["number"])
        if match["kind"].lower() != _TRUTH:
            case.images.setdefault(match["kind"], file)
        elif case.truth is None or number < numbers[folder]:
            case.truth, numbers[folder] = file, number
    return list(cases.values())


_CHALLENGE = r"(?:SISS|SPES)2015_\w+"


def is_isles2015(path: Path, files: Sequence[Path]) -> bool:
    """Whether a folder of VSD files holds diffusion-weighted images; BRATS never does."""
    del path
    return any(_is_stroke(case) for case in vsd_cases(files))


def find_isles2015(path: Path) -> list[Scan]:
    """ISLES-2015, ischaemic stroke: the sub-challenges SISS and SPES, as SMIR shipped them.

    The tree it expects::

        SISS2015_Training/
          1/                                                           a patient
            VSD.Brain.XX.O.MR_T2.70616/VSD.Brain.XX.O.MR_T2.70616.nii  also MR_T1, MR_Flair, MR_DWI
            VSD.Brain.XX.O.OT.70617/VSD.Brain.XX.O.OT.70617.nii        the lesion
        SPES2015_Training/
          1/ …                          MR_T2, MR_T1c, MR_DWI, MR_CBF, MR_CBV, MR_TTP, MR_Tmax, OT

    Subject: the folders' names together, `SISS2015_Training_1`, since every set counts from 1
    (without such a folder above, `SISS_1` or `SPES_1` by the contrasts there are). Every label of
    the truth counts (SPES marks core and penumbra). The scans are skull-stripped: no brain mask.
    Sources: Maier et al., Medical Image Analysis 2017; trees quoted in public code; for SPES only
    the contrasts' names were found there, so its folders are taken to be nested like those of SISS.
    """
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
    above = folder_above(case.folder, _CHALLENGE) or challenge
    return re.sub(r"\s+", "_", f"{above}_{case.folder.name}")
