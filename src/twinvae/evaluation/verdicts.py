"""What the calibrated thresholds say of the slices and subjects of a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from twinvae.decision import Calibration, called, scan_verdict
from twinvae.evaluation.resampling import BoolArray
from twinvae.evaluation.sample import subject_codes

Verdicts = dict[str, BoolArray | None]
"""Suffix of the metrics' names → which rows are called abnormal; None without a calibration."""


def slice_verdicts(calibration: Calibration, rows: pd.DataFrame, score: str) -> Verdicts:
    """By each threshold of ``score``; the suffix is empty for the first, which verdicts use."""
    if score not in calibration["scores"]:
        return {"": None}
    return {
        f"@{entry['percentile']:g}" if number else "": abnormal
        for number, (entry, abnormal) in enumerate(called(calibration, rows, score))
    }


def subject_verdicts(calibration: Calibration, rows: pd.DataFrame, score: str) -> Verdicts:
    """A subject, in the order of its code, is abnormal when one of its scans is."""
    if score not in calibration["scores"]:
        return {"": None}
    subject, n_subjects = subject_codes(rows)
    abnormal = np.zeros(n_subjects, dtype=bool)
    keys = ["source", "subject", *(c for c in ("session",) if c in rows.columns)]
    for places in rows.groupby(keys, sort=False).indices.values():
        verdict = scan_verdict(calibration, rows.iloc[places], score)
        abnormal[subject[places[0]]] |= verdict.abnormal
    return {"": abnormal}
