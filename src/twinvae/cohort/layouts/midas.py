"""MIDAS: Kitware's healthy volunteers (Bullitt et al.), the paper's plan for a further source.

The trees it expects, the files alone or nested::

    Normal001-T2.mha                     also -T1-Flash, -T1-MPRAGE, -MRA, -DTI
    Normal-001/T2/Normal001-T2.mha
    Normal-002/Normal002-T1-Flash.mha

Subject: `Normal001`; one visit each. T1w is the MPRAGE, and the Flash where there is none. The
scans show heads: have brain masks made, or let the recipe make them. Sources: Bullitt et al.,
Neurobiology of Aging 2010; trees quoted in public code that reads the set (pypbm, and others).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from twinvae.cohort.layouts.files import all_files
from twinvae.cohort.layouts.scans import Scan

_FILE = re.compile(
    r"(?P<subject>Normal\d{3})-(?P<kind>T1-Flash|T1-MPRAGE|T1|T2|MRA|DTI)"
    r"\.(?:mha|mhd|nrrd|nii|nii\.gz)",
    re.IGNORECASE,
)
_T1 = ("t1-mprage", "t1-flash")  # the better first


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether files are called `Normal001-T2.mha`."""
    del path
    return any(_FILE.fullmatch(file.name) for file in files)


def find(path: Path) -> list[Scan]:
    """Every scan, of T1w one for each person."""
    images: dict[str, dict[str, Path]] = {}
    for file in all_files(path):
        match = _FILE.fullmatch(file.name)
        if match is not None:
            images.setdefault(match["subject"], {}).setdefault(match["kind"].lower(), file)
    for own in images.values():
        flavours = [own.pop(kind) for kind in _T1 if kind in own]
        if flavours:
            own.setdefault("t1", flavours[0])
    return [
        Scan(subject=subject, contrast=kind.upper(), image=str(image))
        for subject, own in images.items()
        for kind, image in own.items()
    ]
