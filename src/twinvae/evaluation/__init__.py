"""How well scores and verdicts do, and what they really see."""

from twinvae.evaluation.auditing import audit
from twinvae.evaluation.metrics import METRICS_COLUMNS, evaluate, read_metrics, write_metrics

__all__ = ["METRICS_COLUMNS", "audit", "evaluate", "read_metrics", "write_metrics"]
