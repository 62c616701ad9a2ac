"""What the labels of a segmentation stand for, and how each tissue relaxes.

Label numbers are those of FreeSurfer's colour table, which SynthSeg shares. Relaxation times are
typical of healthy adults at 3 T, near those Wansapura et al. (1999) and Stanisz et al. (2005)
measured in grey and white matter; deep nuclei have shorter T2 the more iron they hold (Hallgren and
Sourander 1958). Subjects vary around them, so only their order and rough size matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Class = Literal["grey", "white", "csf"]
CLASSES: tuple[Class, ...] = ("grey", "white", "csf")


@dataclass(frozen=True)
class Tissue:
    """A tissue: labels, the class whose share it counts towards, relaxation."""

    labels: tuple[int | range, ...]
    """Label numbers, or ranges of them (cortical parcels)."""
    kind: Class
    """Also what it would be taken for if its own contrast were not drawn."""
    t1_ms: float
    t2_ms: float
    density: float
    """Proton density relative to CSF."""


TISSUES: dict[str, Tissue] = {
    "cortex": Tissue(
        (3, 42, range(1000, 3000), range(11100, 11200), range(12100, 12200)), "grey", 1330, 90, 0.82
    ),
    "white": Tissue(
        (2, 41, 85, 250, range(251, 256), range(3000, 5003), range(13100, 13200)),
        "white",
        880,
        72,
        0.70,
    ),
    "white_lesion": Tissue((25, 57, 77, 78, 79), "white", 1150, 105, 0.76),
    "cerebellar_cortex": Tissue((8, 47), "grey", 1240, 85, 0.79),
    "cerebellar_white": Tissue((7, 46), "white", 900, 74, 0.71),
    "brainstem": Tissue((16, 170, range(173, 176)), "white", 990, 77, 0.72),
    "thalamus": Tissue((9, 10, 48, 49), "grey", 1140, 76, 0.77),
    "caudate": Tissue((11, 50), "grey", 1290, 80, 0.81),
    "putamen": Tissue((12, 51), "grey", 1240, 75, 0.80),
    "pallidum": Tissue((13, 52), "grey", 980, 60, 0.74),
    "hippocampus": Tissue((17, 53), "grey", 1420, 95, 0.83),
    "amygdala": Tissue((18, 54), "grey", 1430, 94, 0.83),
    "accumbens": Tissue((26, 58), "grey", 1330, 84, 0.81),
    "ventral_diencephalon": Tissue((28, 60), "white", 1030, 71, 0.74),
    "choroid_plexus": Tissue((31, 63, 136, 137, 163, 164), "csf", 2200, 250, 0.90),
    "perivascular": Tissue((30, 62), "csf", 2600, 500, 0.92),
    "ventricles": Tissue((4, 5, 14, 15, 43, 44, 72), "csf", 4200, 1800, 1.0),
    "csf": Tissue((24,), "csf", 4100, 1600, 1.0),
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
