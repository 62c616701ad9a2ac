"""What pages of scans and of patients share: the verdict in words, its curve, its slices.

The values here fill the macros of ``templates/parts.html.j2``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.decision import STATISTICS, ScanVerdict
from twinvae.reporting.score_curve import gauge, score_curve
from twinvae.reporting.text import ordinal, percent, score_label

_SHOWN = 6  # places on the page
_APART = 0.08  # of the brain's height: nearer slices show the same place


def judged_values(verdict: ScanVerdict | None, slices: pd.DataFrame, score: str) -> dict[str, Any]:
    """Values by name; ``slices`` and ``score`` as in ``ScanMaterial``."""
    return {
        "verdict": verdict,
        "said": _said(verdict, slices, score),
        "gauge": None if verdict is None else gauge(verdict),
        "curve": score_curve(slices, verdict),
        "score": score_label(score),
        "slices": [
            {
                "slice": int(row["slice"]),
                "position": f"{row['position']:.2f}",
                "score": f"{row['score']:.4g}",
                "abnormal": bool(row["abnormal"]),
            }
            for _, row in marked(slices).sort_values("slice").iterrows()
        ],
    }


def marked(slices: pd.DataFrame) -> pd.DataFrame:
    """The slices; none of them is abnormal without a verdict."""
    return slices.assign(abnormal=slices["abnormal"].fillna(False).astype(bool))


def distinct_slices(slices: pd.DataFrame, count: int = _SHOWN) -> npt.NDArray[np.int64]:
    """Rows of at most ``count`` slices to show, the highest first, each of a place of its own.

    A slice is one when it is the highest within ``_APART`` of the brain's height around it.
    """
    score = slices["score"].to_numpy(np.float64)
    position = slices["position"].to_numpy(np.float64)
    order = np.argsort(-score, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    near = np.abs(position[:, None] - position) <= _APART
    best = np.where(near, rank, len(rank)).min(axis=1) == rank
    return np.asarray([row for row in order if best[row]][:count], np.int64)


def _said(verdict: ScanVerdict | None, slices: pd.DataFrame, score: str) -> dict[str, str]:
    """The verdict in words: ``tone``, ``sign``, ``state``, why, and what is said of slices."""
    if verdict is None:
        return {"tone": "unclear", "sign": "?", "state": "No verdict: out of domain",
                "reason": "", "called": ""}  # fmt: skip
    return {
        "tone": "bad" if verdict.abnormal else "good",
        "sign": "!" if verdict.abnormal else "✓",
        "state": "Abnormal" if verdict.abnormal else "No abnormality found",
        "reason": _reason(verdict, score_label(score)),
        "called": _called(verdict, slices),
    }


def _reason(verdict: ScanVerdict, label: str) -> str:
    relation = "reaches" if verdict.abnormal else "stays below"
    what = STATISTICS[verdict.statistic].summary
    return (
        f"The verdict rests on one number, the {what} ({label}): {verdict.value:.4g} {relation} "
        f"the threshold for scans, {verdict.threshold:.4g}, the {ordinal(verdict.percentile)} "
        f"percentile of the same in healthy validation scans. About "
        f"{percent(verdict.target_fpr, 0)} of healthy scans like those would be called abnormal. "
        f"Conformal p-value of the scan: {verdict.p_value:.2g}."
    )


def _called(verdict: ScanVerdict, slices: pd.DataFrame) -> str:
    """What single slices say, and that the verdict does not rest on them."""
    bounds = slices["threshold"]
    low, high = float(bounds.min()), float(bounds.max())
    level = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}, by the slice's brain area"
    reach = int(slices["abnormal"].sum())
    aside = "" if verdict.abnormal or not reach else " Some slices of healthy scans do so too."
    return (
        f"{reach} of {len(bounds)} slices reach the threshold for single slices, d* = {level}."
        f"{aside}"
    )
