"""Thresholds from healthy validation slices, and the verdicts they give."""

from twinvae.decision.calibration import calibrate
from twinvae.decision.verdict import (
    ScanVerdict,
    abnormal_slices,
    called,
    scan_threshold,
    scan_verdict,
    slice_threshold,
)

__all__ = [
    "ScanVerdict",
    "abnormal_slices",
    "calibrate",
    "called",
    "scan_threshold",
    "scan_verdict",
    "slice_threshold",
]
