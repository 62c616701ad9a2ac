"""How well scores and verdicts do, and what they really see."""

from twinvae.evaluation.audit import audit
from twinvae.evaluation.metrics import METRICS_COLUMNS, evaluate, read_metrics, write_metrics
from twinvae.evaluation.pixel_metrics import MaskedSlices, evaluate_pixels
from twinvae.evaluation.seeds import OVER_SEEDS_COLUMNS, over_seeds

__all__ = [
    "METRICS_COLUMNS",
    "OVER_SEEDS_COLUMNS",
    "MaskedSlices",
    "audit",
    "evaluate",
    "evaluate_pixels",
    "over_seeds",
    "read_metrics",
    "write_metrics",
]
