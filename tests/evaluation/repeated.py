"""The plain way to resample: each slice as often as its subject is drawn, and the metric anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


def repeated(
    metric: Metric, score: np.ndarray, positive: np.ndarray, subject: np.ndarray, draws: np.ndarray
) -> list[float]:
    """``metric(score, positive)`` in each row of ``draws``; NaN where a class is missing."""
    found = []
    for counts in draws.astype(int):
        index = np.repeat(np.arange(len(score)), counts[subject])
        classes = set(positive[index].tolist())
        found.append(metric(score[index], positive[index]) if len(classes) == 2 else np.nan)
    return found
