"""Thresholds from healthy validation slices, and the verdicts they give."""

from twinvae.decision.apply import (
    STATISTICS,
    Calibration,
    ScanVerdict,
    called,
    discoveries,
    p_values,
    scan_verdict,
    scan_verdicts,
    slice_thresholds,
)
from twinvae.decision.calibration import calibrate
from twinvae.decision.rules import RULES
from twinvae.decision.transfer import transfer

__all__ = [
    "RULES",
    "STATISTICS",
    "Calibration",
    "ScanVerdict",
    "calibrate",
    "called",
    "discoveries",
    "p_values",
    "scan_verdict",
    "scan_verdicts",
    "slice_thresholds",
    "transfer",
]
