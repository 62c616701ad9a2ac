"""How well scores and verdicts do, and what they really see."""

from twinvae.evaluation.auditing import audit
from twinvae.evaluation.metrics import METRICS_COLUMNS, evaluate, read_metrics, write_metrics
from twinvae.evaluation.pixels import MaskedSlices, evaluate_pixels

__all__ = [
    "METRICS_COLUMNS",
    "MaskedSlices",
    "audit",
    "evaluate",
    "evaluate_pixels",
    "read_metrics",
    "write_metrics",
]
