"""How data sets lie on disk, as they are shipped, and where that is known from.

A layout recognises a folder and finds in it every scan of every contrast with its masks
(`scans.Scan`); choosing the contrast and making manifest rows of the scans is common to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pandas as pd

from twinvae.cohort.layouts import bids, brats, csv_table, dicom_studies, volunteers, vsd
from twinvae.cohort.layouts.naming import some_files
from twinvae.cohort.layouts.scans import Scan, scans_table
from twinvae.errors import ConfigError, DataError
from twinvae.vocabulary import Role

__all__ = ["LAYOUTS", "Layout", "index_layout", "recognised"]


@dataclass(frozen=True)
class Layout:
    """How one kind of source is recognised and read into manifest rows (paths absolute)."""

    expects: str
    recognises: Callable[[Path, Sequence[Path]], bool]
    """Path, and some of the files at or below it."""
    index: Callable[[Path, Role, str, str], pd.DataFrame]
    """Path, role, source, contrast."""
    find: Callable[[Path], list[Scan]] | None = None
    """Every scan of every contrast, where names tell which is which."""

    @classmethod
    def of_scans(
        cls,
        expects: str,
        recognises: Callable[[Path, Sequence[Path]], bool],
        find: Callable[[Path], list[Scan]],
    ) -> Self:
        """One that finds every scan of every contrast; choosing among them is common to all."""

        def index(path: Path, role: Role, source: str, contrast: str) -> pd.DataFrame:
            return scans_table(path, find(path), role, source, contrast)

        return cls(expects, recognises, index, find)


LAYOUTS: dict[str, Layout] = {
    "table": Layout("a .csv or .tsv file", csv_table.recognises, csv_table.index_table),
    "bids": Layout.of_scans("folders sub-…", bids.recognises, bids.find),
    "hcp": Layout.of_scans(
        "100307/T1w/T2w_acpc_dc_restore.nii.gz", volunteers.is_hcp, volunteers.find_hcp
    ),
    "brats2015": Layout.of_scans(
        "HGG/brats_tcia_pat153_0109/VSD.Brain…mha", brats.is_brats2015, brats.find_brats2015
    ),
    "brats2017": Layout.of_scans(
        "Brats17_CBICA_AAB_1_t2.nii.gz to BraTS20_Training_001_t2.nii.gz",
        brats.is_brats2017,
        brats.find_brats2017,
    ),
    "brats2021": Layout.of_scans(
        "BraTS2021_00000_t2.nii.gz", brats.BRATS2021.recognises, brats.BRATS2021.find
    ),
    "brats2023": Layout.of_scans(
        "BraTS-GLI-00000-000-t2w.nii.gz", brats.BRATS2023.recognises, brats.BRATS2023.find
    ),
    "msd": Layout.of_scans(
        "dataset.json and imagesTr/BRATS_001.nii.gz", brats.is_msd, brats.find_msd
    ),
    "ixi": Layout.of_scans("IXI002-Guys-0828-T2.nii.gz", volunteers.is_ixi, volunteers.find_ixi),
    "camcan": Layout.of_scans(
        "cc700/mri/pipeline/release004/BIDS_20190411/anat/sub-CC110033",
        volunteers.is_camcan,
        volunteers.find_camcan,
    ),
    "isles2015": Layout.of_scans(
        "SISS2015_Training/1/VSD.Brain…nii", vsd.is_isles2015, vsd.find_isles2015
    ),
    "midas": Layout.of_scans("Normal001-T2.mha", volunteers.is_midas, volunteers.find_midas),
    "tcga-lgg": Layout.of_scans(
        "TCGA_CS_6290_20000917_flair.nii.gz", brats.TCGA_LGG.recognises, brats.TCGA_LGG.find
    ),
    "dicom": Layout(
        "DICOM files of any names and folders", dicom_studies.recognises, dicom_studies.index
    ),
}


def recognised(path: Path) -> list[str]:
    """Names of the layouts that ``path`` looks like."""
    files = some_files(path)
    return [name for name, layout in LAYOUTS.items() if layout.recognises(path, files)]


def index_layout(
    path: Path, layout: str, role: Role, source: str, contrast: str, series: str | None = None
) -> pd.DataFrame:
    """Manifest rows of the scans at ``path``; layout ``auto`` is the one that recognises it.

    ``series`` is a pattern for the layout dicom alone.

    Raises ``ConfigError`` for a layout that does not exist and ``DataError`` when ``path`` is
    missing, is recognised by none or by several, or cannot be read.
    """
    known = "; ".join(f"{name}: {one.expects}" for name, one in LAYOUTS.items())
    if layout != "auto" and layout not in LAYOUTS:
        raise ConfigError(f"layout: expected auto or one of {', '.join(LAYOUTS)}, found {layout!r}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if layout == "auto":
        names = recognised(path)
        if not names:
            raise DataError(f"{path}: layout not recognised; expected one of {known}")
        if len(names) > 1:
            raise DataError(
                f"{path}: expected one layout, found what looks like {' and '.join(names)}; "
                f"index their folders one by one, or name the layout"
            )
        layout = names[0]
    if layout == "dicom":
        return dicom_studies.index(path, role, source, contrast, series)
    if series is not None:
        raise ConfigError(f"series: expected it with the layout dicom only, found {layout}: {path}")
    return LAYOUTS[layout].index(path, role, source, contrast)
