"""Label maps of real anatomies, brought to one pose and turned into maps like the template's.

Label numbers are those of FreeSurfer's colour table, which SynthSeg shares. Relaxation times are
typical of healthy adults at 3 T, near those Wansapura et al. (1999) and Stanisz et al. (2005)
measured in grey and white matter; deep nuclei have shorter T2 the more iron they hold (Hallgren and
Sourander 1958). Subjects vary around them, so only their order and rough size matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twinvae.cohort.phantom.mni152 import COARSE, FloatArray, Maps, away_from, lobar_seeds
from twinvae.errors import ConfigError, DataError
from twinvae.files import file_state

Class = Literal["grey", "white", "csf"]
CLASSES: tuple[Class, ...] = ("grey", "white", "csf")


@dataclass(frozen=True)
class TissueKind:
    """A tissue: labels, the class whose share it counts towards, relaxation."""

    labels: tuple[int | range, ...]
    """Label numbers, or ranges of them (cortical parcels)."""
    kind: Class
    """Also what it would be taken for if its own contrast were not drawn."""
    t1_ms: float
    t2_ms: float
    density: float
    """Proton density relative to CSF."""


TISSUES: dict[str, TissueKind] = {
    "cortex": TissueKind(
        (3, 42, range(1000, 3000), range(11100, 11200), range(12100, 12200)), "grey", 1330, 90, 0.82
    ),
    "white": TissueKind(
        (2, 41, 85, 250, range(251, 256), range(3000, 5003), range(13100, 13200)),
        "white",
        880,
        72,
        0.70,
    ),
    "white_lesion": TissueKind((25, 57, 77, 78, 79), "white", 1150, 105, 0.76),
    "cerebellar_cortex": TissueKind((8, 47), "grey", 1240, 85, 0.79),
    "cerebellar_white": TissueKind((7, 46), "white", 900, 74, 0.71),
    "brainstem": TissueKind((16, 170, range(173, 176)), "white", 990, 77, 0.72),
    "thalamus": TissueKind((9, 10, 48, 49), "grey", 1140, 76, 0.77),
    "caudate": TissueKind((11, 50), "grey", 1290, 80, 0.81),
    "putamen": TissueKind((12, 51), "grey", 1240, 75, 0.80),
    "pallidum": TissueKind((13, 52), "grey", 980, 60, 0.74),
    "hippocampus": TissueKind((17, 53), "grey", 1420, 95, 0.83),
    "amygdala": TissueKind((18, 54), "grey", 1430, 94, 0.83),
    "accumbens": TissueKind((26, 58), "grey", 1330, 84, 0.81),
    "ventral_diencephalon": TissueKind((28, 60), "white", 1030, 71, 0.74),
    "choroid_plexus": TissueKind((31, 63, 136, 137, 163, 164), "csf", 2200, 250, 0.90),
    "perivascular": TissueKind((30, 62), "csf", 2600, 500, 0.92),
    "ventricles": TissueKind((4, 5, 14, 15, 43, 44, 72), "csf", 4200, 1800, 1.0),
    "csf": TissueKind((24,), "csf", 4100, 1600, 1.0),
}
NAMES = tuple(TISSUES)
_LARGEST = 15000


def tissue_table() -> npt.NDArray[np.uint8]:
    """(15000,): 1 + position of the label's tissue in ``NAMES``; 0 for all that is no brain."""
    table = np.zeros(_LARGEST, dtype=np.uint8)
    for number, tissue in enumerate(TISSUES.values(), start=1):
        for labels in tissue.labels:
            table[labels if isinstance(labels, int) else slice(labels.start, labels.stop)] = number
    return table


def class_table() -> npt.NDArray[np.uint8]:
    """(1 + tissues,): position of each tissue's class in ``CLASSES``; CSF for what has no label."""
    kinds = [CLASSES.index(tissue.kind) for tissue in TISSUES.values()]
    return np.array([CLASSES.index("csf"), *kinds], dtype=np.uint8)


_ENDINGS = (".nii", ".nii.gz", ".mgz")
_FIELD_MM = ((-90, 90), (-126, 96), (-80, 100))
_FEWEST_LANDMARKS = 6
_CLOSING_MM = 7.0  # half the width of the widest gap that counts as a sulcus
_RIM_MM = 0.7  # CSF that skull stripping leaves on the surface
_STEM_MM = 6  # of brainstem kept below the cerebellum
_PAD = 6
_MARGIN = 4
# Approximate centres in MNI space (x of the left side, y, z in mm) of structures every FreeSurfer
# segmentation names, as (left, right) labels: they fix the pose.
_LANDMARKS: dict[tuple[int, int], tuple[float, float, float]] = {
    (10, 49): (-11, -19, 7),
    (11, 50): (-13, 10, 10),
    (12, 51): (-25, 2, 0),
    (13, 52): (-20, -5, -1),
    (17, 53): (-26, -22, -14),
    (18, 54): (-23, -5, -19),
    (8, 47): (-24, -63, -35),
    (2, 41): (-27, -18, 20),
    (16, 16): (0, -29, -33),
}


@dataclass(frozen=True)
class Anatomy:
    """One label map in MNI pose (not size), on an RAS grid of 1 mm."""

    maps: Maps
    """What is sampled; its fourth tissue map is flat."""
    tissue: npt.NDArray[np.uint8]
    """(X, Y, Z) on the grid of ``maps``: 1 + number of the tissue in ``NAMES``; 0 elsewhere."""


def label_maps(folder: Path) -> tuple[Path, ...]:
    """Label maps of a folder, in the order of their names."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder, expected one with label maps")
    found = tuple(sorted(p for p in folder.iterdir() if p.name.endswith(_ENDINGS)))
    if not found:
        raise ConfigError(
            f"{folder}: no label maps, expected FreeSurfer or SynthSeg segmentations "
            f"({', '.join(_ENDINGS)})"
        )
    return found


def load_anatomy(path: Path) -> Anatomy:
    """Read one label map (about 2 s); the last two are kept while their files stay the same."""
    return _anatomy(path, tuple(file_state(path)))


@lru_cache(maxsize=2)  # each takes some 60 MB; subjects are made label map by label map
def _anatomy(path: Path, _state: tuple[tuple[str, int, int], ...]) -> Anatomy:
    labels, affine = _read(path)
    raw = tissue_table()[labels]
    counts = np.bincount(raw.ravel(), minlength=len(NAMES) + 1)[1:]
    lacking = [name for name in ("cortex", "white", "ventricles") if not counts[NAMES.index(name)]]
    if lacking:
        found = ", ".join(map(str, np.unique(labels[labels > 0])[:12])) or "none"
        raise DataError(
            f"{path}: expected FreeSurfer labels, among them cortex (3, 42, parcels), white matter "
            f"(2, 41) and ventricles (4, 43); found no {', '.join(lacking)} among labels {found}"
        )
    tissue, origin = _in_pose(raw, _pose(labels, affine, path) @ affine)
    tissue, brain, origin = _cropped(tissue, _brain_mask(tissue, origin), origin)
    return Anatomy(_maps(tissue, brain, origin), tissue)


def _read(path: Path) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Labels (X, Y, Z) and the 4×4 matrix from voxels to mm."""
    try:
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj)
    except Exception as error:
        raise DataError(f"{path}: expected a readable label map, found {error}") from None
    values = values.reshape(values.shape[:3]) if values.ndim > 3 and values.size else values
    if values.ndim != 3:
        raise DataError(f"{path}: expected a label map of 3 dimensions, found {values.shape}")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values % 1 == 0).all()):
        raise DataError(f"{path}: expected whole numbers as labels, found others (an image?)")
    if values.min() < 0 or values.max() >= len(tissue_table()):
        raise DataError(
            f"{path}: expected labels from 0 to {len(tissue_table()) - 1}, "
            f"found {values.min()} to {values.max()}"
        )
    return values.astype(np.int32), image.affine


def _pose(
    labels: npt.NDArray[np.int32], affine: npt.NDArray[np.float64], path: Path
) -> npt.NDArray[np.float64]:
    """4×4 rigid matrix that brings the landmarks' centres closest to those of MNI (Kabsch 1976)."""
    ours, theirs = [], []
    coarse = labels[::2, ::2, ::2]
    for sides, centre in _LANDMARKS.items():
        for label, sign in zip(sides, (1, -1), strict=True):
            voxels = np.argwhere(coarse == label)
            if len(voxels):
                ours.append(affine[:3, :3] @ (2 * voxels.mean(axis=0)) + affine[:3, 3])
                theirs.append(np.array(centre) * (sign, 1, 1))
    if len(ours) < _FEWEST_LANDMARKS:
        raise DataError(
            f"{path}: expected at least {_FEWEST_LANDMARKS} of the structures "
            f"{sorted({label for sides in _LANDMARKS for label in sides})}, found {len(ours)}"
        )
    a, b = np.array(ours), np.array(theirs)
    u, _, vt = np.linalg.svd((a - a.mean(axis=0)).T @ (b - b.mean(axis=0)))
    mirror = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    pose = np.eye(4)
    pose[:3, :3] = (u @ mirror @ vt).T
    pose[:3, 3] = b.mean(axis=0) - pose[:3, :3] @ a.mean(axis=0)
    return pose


def _in_pose(
    tissue: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Tissue on the RAS grid of 1 mm over ``_FIELD_MM``, and its origin in mm."""
    low, high = np.array(_FIELD_MM, dtype=float).T
    back = np.linalg.inv(affine)
    offset = back[:3, :3] @ low + back[:3, 3]
    shape = tuple(int(n) for n in high - low)
    posed = ndimage.affine_transform(tissue, back[:3, :3], offset, shape, order=0)
    return posed, low.astype(np.float32)


def _brain_mask(tissue: npt.NDArray[np.uint8], origin_mm: FloatArray) -> npt.NDArray[np.bool_]:
    """(X, Y, Z): what skull stripping would keep: the brain, its sulci closed, a rim of CSF.

    Worked out at 2 mm: closing by ``_CLOSING_MM``, then holes filled; the brainstem ends
    ``_STEM_MM`` below the cerebellum.
    """
    csf = 1 + NAMES.index("csf")
    solid = (tissue > 0) & (tissue != csf)
    cerebellum = tissue == 1 + NAMES.index("cerebellar_cortex")
    if cerebellum.any():
        solid[:, :, : max(int(np.flatnonzero(cerebellum.any((0, 1)))[0]) - _STEM_MM, 0)] = False
    coarse = np.pad(solid[::COARSE, ::COARSE, ::COARSE], _PAD)
    near = ndimage.distance_transform_edt(~_largest(coarse)) * COARSE <= _CLOSING_MM
    closed = ndimage.distance_transform_edt(near) * COARSE > _CLOSING_MM - _RIM_MM
    closed = _largest(ndimage.binary_opening(ndimage.binary_fill_holes(closed)))
    closed = closed[(slice(_PAD, -_PAD),) * 3]
    fine = closed.repeat(COARSE, 0).repeat(COARSE, 1).repeat(COARSE, 2)
    smooth = ndimage.uniform_filter(fine.astype(np.float32), size=2 * COARSE + 1) > 0.5
    mask: npt.NDArray[np.bool_] = smooth[tuple(slice(n) for n in tissue.shape)]
    return mask


def _largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest connected part of a mask that is not empty."""
    parts, _ = ndimage.label(mask)
    largest: npt.NDArray[np.bool_] = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return largest


def _cropped(
    tissue: npt.NDArray[np.uint8], brain: npt.NDArray[np.bool_], origin_mm: FloatArray
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], FloatArray]:
    """The box around the brain with a margin; without tissue beyond the brain."""
    (box,) = ndimage.find_objects(brain.astype(np.uint8))
    box = tuple(slice(max(s.start - _MARGIN, 0), s.stop + _MARGIN) for s in box)
    start = np.array([s.start for s in box], dtype=np.float32)
    return np.where(brain, tissue, 0)[box], brain[box], origin_mm + start


def _maps(
    tissue: npt.NDArray[np.uint8], brain: npt.NDArray[np.bool_], origin_mm: FloatArray
) -> Maps:
    kind = class_table()[tissue]
    shares = [ndimage.uniform_filter((kind == c) * np.uint8(255), 3) for c in range(len(CLASSES))]
    coarse = np.s_[::COARSE, ::COARSE, ::COARSE]
    depth = ndimage.distance_transform_edt(brain[coarse]).astype(np.float32) * COARSE
    ventricles = tissue[coarse] == 1 + NAMES.index("ventricles")
    white = tissue[coarse] == 1 + NAMES.index("white")
    return Maps(
        brain=ndimage.uniform_filter(brain * np.uint8(255), size=5),
        tissue=(*shares, np.zeros((1, 1, 1), dtype=np.float32)),
        warp=(*away_from(ventricles), depth),
        seeds_mm=lobar_seeds(white, depth, origin_mm),
        origin_mm=origin_mm,
    )
