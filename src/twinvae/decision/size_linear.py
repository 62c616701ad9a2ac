"""A threshold that follows brain area along a straight line."""

from __future__ import annotations

import numpy as np

from twinvae.config import DecisionConfig
from twinvae.decision.rule import Curve, Rule, Shape
from twinvae.decision.sample import Healthy


def line(healthy: Healthy, config: DecisionConfig) -> Shape:
    """Level: the least-squares line of score on brain area, level beyond the areas seen."""
    size, score = healthy.places.size, healthy.score
    if np.ptp(size) == 0 or np.ptp(score) == 0:
        return Shape()
    ends = np.array([size.min(), size.max()])
    slope, at_zero = np.polyfit(size, score, 1)
    return Shape(level=Curve(ends, at_zero + slope * ends))


RULE = Rule(
    name="size_linear",
    summary="a line in brain area, raised by a percentile of the residuals",
    guarantee="none in finite samples; the target is met on average over slices with many "
    "healthy subjects, and at every brain area if the assumption holds",
    assumes="healthy scores are a straight line in brain area plus noise that is the same at "
    "every area",
    source="ours, the simplest threshold that depends on brain size",
    shape=line,
)
