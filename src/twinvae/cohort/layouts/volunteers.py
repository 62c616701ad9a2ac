"""Healthy volunteers: HCP, IXI, Cam-CAN and MIDAS, as their sources ship them.

Most of their scans show heads: have brain masks made, or let the recipe make them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from twinvae.cohort.layouts import bids
from twinvae.cohort.layouts.naming import NIFTI, Naming, all_files
from twinvae.cohort.layouts.scans import Scan
from twinvae.errors import DataError

_HCP_SCANNERS = {"T2w": "T2w_SPC", "T1w": "T1w_MPR"}  # contrasts, and what the scanner calls them
_HCP_KINDS = {  # in the order of choice: the image and its brain mask below the subject's folder
    "brain": ("T1w/{c}_acpc_dc_restore_brain.nii.gz", "T1w/brainmask_fs.nii.gz"),
    "with head": ("T1w/{c}_acpc_dc_restore.nii.gz", "T1w/brainmask_fs.nii.gz"),
    "brain in MNI": ("MNINonLinear/{c}_restore_brain.nii.gz", "MNINonLinear/brainmask_fs.nii.gz"),
    "with head in MNI": ("MNINonLinear/{c}_restore.nii.gz", "MNINonLinear/brainmask_fs.nii.gz"),
    "unprocessed 1": ("unprocessed/3T/{p}1/{s}_3T_{p}1.nii.gz", ""),
    "unprocessed 2": ("unprocessed/3T/{p}2/{s}_3T_{p}2.nii.gz", ""),
}
_HCP_FILE = re.compile(
    r"/\d{6}/(?:T1w/T[12]w_acpc_dc|MNINonLinear/T[12]w_restore"
    r"|unprocessed/3T/T(?:1w_MPR|2w_SPC)\d/\d{6}_3T_)[^/]*\.nii\.gz"
)


def is_hcp(path: Path, files: Sequence[Path]) -> bool:
    """Whether folders of six digits hold files of the HCP pipelines."""
    del path
    return any(_HCP_FILE.search(file.as_posix()) for file in files)


def find_hcp(path: Path) -> list[Scan]:
    """Human Connectome Project, young adults: the paper's healthy source.

    The tree it expects (T1w images lie beside the T2w ones under the same names)::

        HCP_1200/
          100307/
            T1w/T2w_acpc_dc_restore_brain.nii.gz       1st choice: own anatomy, distortion and bias
            T1w/T2w_acpc_dc_restore.nii.gz             2nd           corrected, 0.7 mm
            T1w/brainmask_fs.nii.gz                    brain mask of both
            MNINonLinear/T2w_restore_brain.nii.gz      3rd choice: warped to the MNI brain
            MNINonLinear/T2w_restore.nii.gz            4th
            MNINonLinear/brainmask_fs.nii.gz           brain mask of both
            unprocessed/3T/T2w_SPC1/100307_3T_T2w_SPC1.nii.gz     5th: as scanned, with the head
            unprocessed/3T/T1w_MPR1/100307_3T_T1w_MPR1.nii.gz     its T1w

    All scans of a contrast are of one kind: the first that at least half of the subjects have. Who
    lacks it is left out with a note. Warping to MNI makes brains alike in size and shape, which
    patients' brains are not, so it comes after the first two. Subject: the six digits. Sources:
    Glasser et al., NeuroImage 2013; the HCP 1200 Subjects reference manual; trees quoted in public
    code.
    """
    folders = sorted(p.absolute() for p in path.glob("[0-9]" * 6) if p.is_dir())
    return [scan for contrast in _HCP_SCANNERS for scan in _of_one_kind(folders, contrast)]


def _of_one_kind(folders: Sequence[Path], contrast: str) -> list[Scan]:
    by_kind: dict[str, dict[str, Scan]] = {kind: {} for kind in _HCP_KINDS}
    for folder in folders:
        for kind in _HCP_KINDS:
            scan = _hcp_scan(folder, contrast, kind)
            if scan is not None:
                by_kind[kind][scan.subject] = scan
    any_kind = {subject: scan for found in by_kind.values() for subject, scan in found.items()}
    many = [kind for kind, found in by_kind.items() if 2 * len(found) >= len(any_kind)]
    chosen = by_kind[many[0] if many else max(by_kind, key=lambda kind: len(by_kind[kind]))]
    others = {
        subject: replace(scan, contrast=f"{contrast} {kind}")
        for kind, found in by_kind.items()
        for subject, scan in found.items()
        if subject not in chosen
    }
    return [*chosen.values(), *others.values()]


def _hcp_scan(folder: Path, contrast: str, kind: str) -> Scan | None:
    image, mask = _HCP_KINDS[kind]
    file = folder / image.format(c=contrast, p=_HCP_SCANNERS[contrast], s=folder.name)
    brain = folder / mask
    if not file.is_file():
        return None
    return Scan(
        subject=folder.name,
        contrast=contrast,
        image=str(file),
        brain_mask=str(brain) if mask and brain.is_file() else "",
    )


_IXI_VISIT = r"(?P<subject>IXI\d+)-(?P<part>Guys|HH|IOP)-(?P<session>\d+)"
_IXI_MASK = "brain_?mask|mask"
_IXI = Naming(
    _IXI_VISIT + rf"[-_](?P<kind>T1|T2|PD|MRA|{_IXI_MASK}){NIFTI}", tumour=(),
    brain=("brainmask", "brain_mask", "mask"),
)  # fmt: skip
_IXI_OWN_MASK = Naming(_IXI_VISIT + rf"[-_](?P<kind>T1|T2|PD|MRA)[-_](?:{_IXI_MASK}){NIFTI}")


def is_ixi(path: Path, files: Sequence[Path]) -> bool:
    """Whether files are called `IXI002-Guys-0828-T2.nii.gz`."""
    return _IXI.recognises(path, files)


def find_ixi(path: Path) -> list[Scan]:
    """IXI, healthy people from three London hospitals.

    The tree it expects, in one folder or one a contrast (IXI-T2.tar and so on)::

        IXI-T2/
          IXI002-Guys-0828-T2.nii.gz          Guys, HH (Hammersmith) or IOP; also -T1, -PD, -MRA
        derived/
          IXI013-HH-1212_T1.nii.gz            `_` before the contrast is read too
          IXI013-HH-1212_brainmask.nii.gz     of the visit's only contrast, or
          IXI013-HH-1212-T1_brainmask.nii.gz  of this one: the contrasts lie on different grids

    Subject: `IXI002`; session: the number after the site. The site becomes a part of the source
    (`NAME-Guys`, …), since each has a scanner of its own. The scans show heads: have brain masks
    made, or let the recipe make them. Diffusion images (`-DTI-00`) are left alone. Source:
    brain-development.org/ixi-dataset, and the files themselves.
    """
    files = all_files(path)
    scans = _IXI.scans(files)
    own = {_ixi_key(scan): scan.image for scan in _IXI_OWN_MASK.scans(files)}
    contrasts = Counter((s.subject, s.session) for s in {_ixi_key(s): s for s in scans}.values())
    return [
        replace(
            scan,
            brain_mask=own.get(_ixi_key(scan))
            or (scan.brain_mask if contrasts[scan.subject, scan.session] == 1 else ""),
        )
        for scan in scans
    ]


def _ixi_key(scan: Scan) -> tuple[str, str, str]:
    return scan.subject, scan.session, scan.contrast.upper()


_CAMCAN_CHAIN = ("cc700", "mri", "pipeline", "release*", "BIDS_*", "anat")


def is_camcan(path: Path, files: Sequence[Path]) -> bool:
    """Whether the BIDS data set lies somewhere down the chain of folders."""
    del files
    root = _camcan_root(path)
    return root is not None and root != path


def find_camcan(path: Path) -> list[Scan]:
    """Cam-CAN, healthy adults of 18 to 88: BIDS, below folders of its own.

    The tree it expects::

        cc700/mri/pipeline/release004/BIDS_20190411/
          anat/                                              this folder is the BIDS data set
            participants.tsv
            sub-CC110033/anat/sub-CC110033_T2w.nii.gz        also _T1w
          epi_rest/ …                                        left alone

    `path` may be any folder of that chain, or the one above `cc700`; given `anat` itself, `auto`
    reads it as plain BIDS, to the same effect. Subject: `CC110033`. The scans show heads: have
    brain masks made, or let the recipe make them. Sources: cam-can.org; paths quoted in public
    code.
    """
    root = _camcan_root(path)
    if root is None:
        raise DataError(
            f"{path}: expected {'/'.join(_CAMCAN_CHAIN)}/sub-CC… or a part of it, found none"
        )
    return bids.find(root)


def _camcan_root(path: Path) -> Path | None:
    """The BIDS folder, of the latest release if there are several."""
    for start in range(len(_CAMCAN_CHAIN) + 1):
        chain = _CAMCAN_CHAIN[start:]
        roots = sorted(path.glob("/".join(chain))) if chain else [path]
        for root in reversed(roots):
            if any(root.glob("sub-CC*")):
                return root
    return None


_MIDAS_FILE = re.compile(
    r"(?P<subject>Normal\d{3})-(?P<kind>T1-Flash|T1-MPRAGE|T1|T2|MRA|DTI)"
    r"\.(?:mha|mhd|nrrd|nii|nii\.gz)",
    re.IGNORECASE,
)
_MIDAS_T1 = ("t1-mprage", "t1-flash")  # the better first


def is_midas(path: Path, files: Sequence[Path]) -> bool:
    """Whether files are called `Normal001-T2.mha`."""
    del path
    return any(_MIDAS_FILE.fullmatch(file.name) for file in files)


def find_midas(path: Path) -> list[Scan]:
    """MIDAS: Kitware's healthy volunteers (Bullitt et al.), the paper's plan for a further source.

    The trees it expects, the files alone or nested::

        Normal001-T2.mha                     also -T1-Flash, -T1-MPRAGE, -MRA, -DTI
        Normal-001/T2/Normal001-T2.mha
        Normal-002/Normal002-T1-Flash.mha

    Subject: `Normal001`; one visit each. T1w is the MPRAGE, and the Flash where there is none. The
    scans show heads: have brain masks made, or let the recipe make them. Sources: Bullitt et al.,
    Neurobiology of Aging 2010; trees quoted in public code that reads the set (pypbm, and others).
    """
    images: dict[str, dict[str, Path]] = {}
    for file in all_files(path):
        match = _MIDAS_FILE.fullmatch(file.name)
        if match is not None:
            images.setdefault(match["subject"], {}).setdefault(match["kind"].lower(), file)
    for own in images.values():
        flavours = [own.pop(kind) for kind in _MIDAS_T1 if kind in own]
        if flavours:
            own.setdefault("t1", flavours[0])
    return [
        Scan(subject=subject, contrast=kind.upper(), image=str(image))
        for subject, own in images.items()
        for kind, image in own.items()
    ]
