"""Cam-CAN, healthy adults of 18 to 88: BIDS, below folders of its own.

The tree it expects::

    cc700/mri/pipeline/release004/BIDS_20190411/
      anat/                                              this folder is the BIDS data set
        participants.tsv
        sub-CC110033/anat/sub-CC110033_T2w.nii.gz        also _T1w
      epi_rest/ …                                        left alone

`path` may be any folder of that chain, or the one above `cc700`; given `anat` itself, `auto` reads
it as plain BIDS, to the same effect. Subject: `CC110033`. The scans show heads: have brain masks
made, or let the recipe make them. Sources: cam-can.org; paths quoted in public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twinvae.cohort.layouts import bids
from twinvae.cohort.layouts.scans import Scan
from twinvae.errors import DataError

_CHAIN = ("cc700", "mri", "pipeline", "release*", "BIDS_*", "anat")


def recognises(path: Path, files: Sequence[Path]) -> bool:
    """Whether the BIDS data set lies somewhere down the chain of folders."""
    del files
    root = _root(path)
    return root is not None and root != path


def find(path: Path) -> list[Scan]:
    """Every scan of every contrast."""
    root = _root(path)
    if root is None:
        raise DataError(f"{path}: expected {'/'.join(_CHAIN)}/sub-CC… or a part of it, found none")
    return bids.find(root)


def _root(path: Path) -> Path | None:
    """The BIDS folder, of the latest release if there are several."""
    for start in range(len(_CHAIN) + 1):
        chain = _CHAIN[start:]
        roots = sorted(path.glob("/".join(chain))) if chain else [path]
        for root in reversed(roots):
            if any(root.glob("sub-CC*")):
                return root
    return None
