"""Thresholds from healthy validation slices, and the verdicts they give."""

from twinvae.decision.calibration import calibrate
from twinvae.decision.fdr import discoveries
from twinvae.decision.registry import RULES
from twinvae.decision.transfer import transfer
from twinvae.decision.verdict import (
    ScanVerdict,
    abnormal_slices,
    called,
    p_values,
    scan_threshold,
    scan_verdict,
    slice_threshold,
    slice_thresholds,
)

__all__ = [
    "RULES",
    "ScanVerdict",
    "abnormal_slices",
    "calibrate",
    "called",
    "discoveries",
    "p_values",
    "scan_threshold",
    "scan_verdict",
    "slice_threshold",
    "slice_thresholds",
    "transfer",
]
