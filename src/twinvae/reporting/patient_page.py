"""One page per patient of several contrasts for ``detect``: the verdict on all, and on each.

Made of the parts of a scan's page, which each contrast has besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.decision import ScanVerdict
from twinvae.files import atomic_path, write_text
from twinvae.reporting.judged import distinct_slices, judged_values, marked
from twinvae.reporting.pictures import Pixels, grey, png, with_heat
from twinvae.reporting.text import data_uri, render

Images = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ContrastSlices:
    """The slices of one contrast as they are shown."""

    position: npt.NDArray[np.float64]
    """(n,): relative position in the brain, in [0, 1]."""
    images: Images
    """(n, H, W), intensity in [0, 1]."""
    relative: Images
    """(n, H, W): the map behind the contrast's own score in times its threshold."""


@dataclass(frozen=True)
class PatientMaterial:
    """What ``detect`` found in the scans of one patient."""

    name: str
    """The patient, as the reader knows it."""
    verdict: ScanVerdict | None
    """On all contrasts; None when nothing is said."""
    slices: pd.DataFrame
    """As in ``ScanMaterial``, of the score that the contrasts have together."""
    score: str
    """Name of that score."""
    contrasts: Mapping[str, ContrastSlices]
    """Each that was read; its own page is one of ``pages``."""
    words: Mapping[str, str]
    """Contrast → what it says alone, and whether it was left out, for every contrast given."""
    made: Mapping[str, object] = field(default_factory=dict)
    """How the page came about: what → text."""
    warnings: Sequence[str] = ()
    """Sentences shown beside the verdict."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """Contrast → its own page, from this one; by default ``CONTRAST/report.html``."""


def write_patient_page(material: PatientMaterial, path: Path) -> None:
    """Write the page atomically, one HTML text that opens offline."""
    rows = [int(row) for row in distinct_slices(material.slices)]
    page = render(
        "patient.html.j2",
        name=material.name,
        **judged_values(material.verdict, material.slices, material.score),
        warnings=material.warnings,
        words=material.words,
        pages={c: material.pages.get(c, f"{c}/report.html") for c in material.contrasts},
        places=[_place(material, row) for row in rows],
        made=material.made,
    )
    write_text(path, page)


def write_patient_thumbnail(material: PatientMaterial, path: Path) -> None:
    """Write the highest slice, in the first contrast, with the map over it, as a PNG file."""
    row = int(distinct_slices(material.slices)[0])
    _, over = next(iter(_pictures(material, row).values()))
    with atomic_path(path) as temporary:
        temporary.write_bytes(png(over))


def _place(material: PatientMaterial, row: int) -> dict[str, Any]:
    """One of the highest slices: what is written beside it, and its pictures by contrast."""
    slices = marked(material.slices).iloc[row]
    return {
        "slice": int(slices["slice"]),
        "score": f"{slices['score']:.3g}",
        "abnormal": bool(slices["abnormal"]),
        "pictures": {
            contrast: [data_uri(png(pixels), "png") for pixels in two]
            for contrast, two in _pictures(material, row).items()
        },
    }


def _pictures(material: PatientMaterial, row: int) -> dict[str, tuple[Pixels, Pixels]]:
    """Contrast → the slice, and the map over it; on another grid the nearest in position."""
    position, found = float(material.slices["position"].iloc[row]), {}
    for contrast, one in material.contrasts.items():
        at = int(np.argmin(np.abs(one.position - position)))
        found[contrast] = grey(one.images[at]), with_heat(one.images[at], one.relative[at])
    return found
