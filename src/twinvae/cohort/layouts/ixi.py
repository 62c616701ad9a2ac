"""IXI, healthy people from three London hospitals.

The tree it expects, in one folder or one a contrast (IXI-T2.tar and so on)::

    IXI-T2/
      IXI002-Guys-0828-T2.nii.gz          Guys, HH (Hammersmith) or IOP; also -T1, -PD, -MRA
    derived/
      IXI013-HH-1212_T1.nii.gz            `_` before the contrast is read too
      IXI013-HH-1212_brainmask.nii.gz     of the visit's only contrast, or
      IXI013-HH-1212-T1_brainmask.nii.gz  of this one: the contrasts lie on different grids

Subject: `IXI002`; session: the number after the site. The site becomes a part of the source
(`NAME-Guys`, …), since each has a scanner of its own. The scans show heads: have brain masks made,
or let the recipe make them. Diffusion images (`-DTI-00`) are left alone. Source:
brain-development.org/ixi-dataset, and the files themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twinvae.cohort.layouts.files import NIFTI, all_files
from twinvae.cohort.layouts.naming import Naming
from twinvae.cohort.layouts.scans import Scan

_WHO = r"(?P<subject>IXI\d+)-(?P<part>Guys|HH|IOP)-(?P<session>\d+)"
_MASK = "brain_?mask|mask"
_NAMING = Naming(
    _WHO + rf"[-_](?P<kind>T1|T2|PD|MRA|{_MASK}){NIFTI}", tumour=(),
    brain=("brainmask", "brain_mask", "mask"),
)  # fmt: skip
_OWN_MASK = Naming(_WHO + rf"[-_](?P<kind>T1|T2|PD|MRA)[-_](?:{_MASK}){NIFTI}")


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether files are called `IXI002-Guys-0828-T2.nii.gz`."""
    return _NAMING.recognises(path, files)


def find(path: Path) -> list[Scan]:
    """Every scan of every contrast, with the brain mask made for it."""
    files = all_files(path)
    scans = _NAMING.scans(files)
    own = {_key(scan): scan.image for scan in _OWN_MASK.scans(files)}
    contrasts = Counter((s.subject, s.session) for s in {_key(s): s for s in scans}.values())
    return [
        replace(
            scan,
            brain_mask=own.get(_key(scan))
            or (scan.brain_mask if contrasts[scan.subject, scan.session] == 1 else ""),
        )
        for scan in scans
    ]


def _key(scan: Scan) -> tuple[str, str, str]:
    return scan.subject, scan.session, scan.contrast.upper()
