"""The parts that slices are judged in: which there are, and what readers call them."""

from __future__ import annotations

import pandas as pd

KINDS = {"raw": "auroc", "matched": "auroc_matched", "adjusted": "auroc_adjusted"}
"""Kind of AUROC → its name in ``metrics.tsv``."""
_PARTS = ("size_mm2", "size_px", "position", "grade", "mixed")
THIRDS = {"first": "lowest third of brain", "middle": "middle third", "last": "highest third"}
"""Of the brain, as ``metrics.tsv`` and ``audit.json`` name them → for readers."""


def stratum_label(subset: str) -> str:
    """A subset of ``metrics.tsv`` as a reader would say it."""
    part, _, which = subset.partition(":")
    if part in ("size_mm2", "size_px"):
        low, _, high = which.partition("-")
        if part == "size_px":
            return f"tumour {int(low) + 1}–{high} px" if high else f"tumour over {low} px"
        lowest = f"{float(low):.0f}"
        return f"tumour {lowest}–{float(high):.0f} mm²" if high else f"tumour over {lowest} mm²"
    if part == "position":
        return THIRDS[which]
    return f"{'source' if part == 'mixed' else part} {which}" if which else "all"


def strata_of(metrics: pd.DataFrame, min_tumour_px: int) -> list[str]:
    """Subsets with tumour and tumour-free slices: all, then by size, position, grade, source."""
    chosen = (metrics["level"] == "slice") & (metrics["min_tumour_px"] == min_tumour_px)
    chosen &= (metrics["metric"] == "auroc") & (metrics["n_pos"] > 0) & (metrics["n_neg"] > 0)
    there = list(dict.fromkeys(metrics.loc[chosen, "subset"]))
    parts = [subset for part in _PARTS for subset in there if subset.startswith(f"{part}:")]
    return [*(["mixed"] if "mixed" in there else []), *parts]
