"""What matched and adjusted figures rest on, and warnings where that is too little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from twinvae.evaluation.resampling import BoolArray
from twinvae.evaluation.sample import Sample
from twinvae.evaluation.three_aurocs import ThreeAurocs
from twinvae.scoring.table import SPACING

FEW_SUBJECTS = 50
"""Below this many subjects with a tumour slice, or with a tumour-free one, intervals are rough."""
FEW_NEGATIVES = 10
"""Below this median effective number of tumour-free slices, adjusted figures are doubtful."""
FEW_NEGATIVE_SUBJECTS = 5
"""The same for the effective number of subjects that these slices are of."""
ENOUGH_PLACED = 0.8
"""Below this share of tumour slices with a comparable tumour-free one, those left out matter."""


def support(sample: Sample, positive: BoolArray, aurocs: ThreeAurocs) -> dict[str, Any]:
    """Counts behind the AUROCs.

    ``tumour_slices``, ``tumour_free_slices``, and the subjects of each; ``matched_pairs``;
    ``placed_tumour_slices``, those with a comparable tumour-free slice; and for a typical one of
    them ``adjusted_negatives`` and ``adjusted_subjects``, the effective numbers of tumour-free
    slices, and of their subjects, it is placed among (medians). ``pixel_mm2``: smallest and
    largest area of a pixel of their grids, or None where areas could be compared in pixels only.
    """
    slices, subjects = aurocs.neighbours.typical
    return {
        "tumour_slices": int(positive.sum()),
        "tumour_subjects": len(np.unique(sample.subject[positive])),
        "tumour_free_slices": int((~positive).sum()),
        "tumour_free_subjects": len(np.unique(sample.subject[~positive])),
        "matched_pairs": aurocs.pairs.count,
        "placed_tumour_slices": len(aurocs.neighbours.placed),
        "adjusted_negatives": slices,
        "adjusted_subjects": subjects,
        "pixel_mm2": sample.pixel_mm2 and list(sample.pixel_mm2),
    }


def warnings(found: Mapping[str, Any]) -> list[str]:
    """One sentence for each count of ``support`` that is too low, and for areas in pixels."""
    tumours, placed = found["tumour_slices"], found["placed_tumour_slices"]
    out = []
    for key, what in (("tumour_subjects", "a tumour"), ("tumour_free_subjects", "a tumour-free")):
        if found[key] < FEW_SUBJECTS:
            out.append(
                f"Only {found[key]} subjects have {what} slice: with fewer than {FEW_SUBJECTS}, "
                f"95 % intervals hold the truth in fewer than 95 % of cases."
            )
    if tumours and placed < ENOUGH_PLACED * tumours:
        out.append(
            f"Only {placed} of {tumours} tumour slices have a tumour-free slice of similar brain "
            f"area and position: matched and adjusted AUROCs are about those alone."
        )
    if placed and found["adjusted_negatives"] < FEW_NEGATIVES:
        out.append(
            f"A typical tumour slice has only {found['adjusted_negatives']:.1f} comparable "
            f"tumour-free slices (fewer than {FEW_NEGATIVES}): its adjusted AUROC is doubtful."
        )
    if placed and found["adjusted_subjects"] < FEW_NEGATIVE_SUBJECTS:
        out.append(
            f"The tumour-free slices that a typical tumour slice is compared with are of only "
            f"{found['adjusted_subjects']:.1f} subjects (fewer than {FEW_NEGATIVE_SUBJECTS})."
        )
    if tumours and found["pixel_mm2"] is None:
        out.append(
            f"The scores table has no column {SPACING}, so areas were compared in pixels: matched "
            f"and adjusted AUROCs, strata by size and the source gap hold only if all scans share "
            f"one in-plane grid."
        )
    return out
