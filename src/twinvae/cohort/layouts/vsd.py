"""Files as the Virtual Skeleton Database (SMIR) shipped them, in BRATS-2012…2015 and ISLES-2015.

Each image lies in a folder of its own name inside the folder of its case::

    CASE/VSD.Brain.XX.O.MR_T2.54515/VSD.Brain.XX.O.MR_T2.54515.mha      the contrast after MR_
    CASE/VSD.Brain_3more.XX.O.OT.54517/VSD.Brain_3more.XX.O.OT.54517.mha      OT: the truth

Copies without the inner folders, with `SMIR` instead of `VSD`, or converted to NIfTI are about and
are read too. Where a case has several truths (two raters), the one with the lowest number is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

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
