"""Data sets as they are shipped, in miniature: true names and nesting, volumes of a few voxels.

Every folder also gets what file managers leave behind: `.DS_Store`, and a `._` twin of each image;
and what a writer that was killed does: half an image under its full name in a hidden folder.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from twinvae.files import TEMPORARY

MASK = re.compile(r"seg|mask|labelsTr|\.OT\.", re.IGNORECASE)
CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")
Row = tuple[str, str, str, str, str, str]


@dataclass(frozen=True)
class Tree:
    """Files of a data set, and the manifest rows that one contrast of it must give.

    ``rows``: subject, session, source, image, brain mask, tumour mask; paths below ``root``.
    """

    name: str
    layout: str
    root: str
    files: tuple[str, ...]
    rows: tuple[Row, ...]
    contrast: str = "T2w"
    texts: dict[str, str] = field(default_factory=dict)

    def build(self, folder: Path) -> Path:
        """Write the tree below ``folder`` and return what is to be indexed."""
        root = folder / self.root
        for name, text in self.texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        for name in self.files:
            put(root / name)
        inside = root.parent if root.is_file() else root
        for below in [inside, *(p for p in inside.rglob("*") if p.is_dir())]:
            (below / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        return root


def put(file: Path) -> Path:
    """Write a small image or mask, as the name asks for, with a ``._`` twin and a lost half."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = "4d" if "imagesT" in str(file) else "mask" if MASK.search(str(file)) else "image"
    suffix = "".join(re.findall(r"\.(?:nii|gz|mha)$|\.nii(?=\.gz$)", file.name))
    file.write_bytes(_content(kind, suffix))
    half = file.parent / f"{TEMPORARY}host-7~x1" / file.name
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(_content(kind, suffix)[:200])
    (file.parent / f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    return file


@cache
def _content(kind: str, suffix: str) -> bytes:
    shape = (5, 6, 7)
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    if kind == "mask":
        data = (data % 7 == 3).astype(np.int16)
    if kind == "4d":
        data = np.stack([data + 1000 * number for number in range(len(CHANNELS))], axis=-1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"v{suffix}"
        if suffix == ".mha":
            sitk.WriteImage(sitk.GetImageFromArray(data.T), str(path))
        else:
            nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
        return path.read_bytes()
