"""A threshold of its own for every bin of brain area."""

from __future__ import annotations

from twinvae.config import DecisionConfig
from twinvae.decision.rule import Rule, Shape, equal_bins
from twinvae.decision.sample import Healthy


def by_size(healthy: Healthy, config: DecisionConfig) -> Shape:
    """``decision.bins`` bins of equally many healthy slices."""
    return Shape(size_edges=equal_bins(healthy.places.size, config.bins))


RULE = Rule(
    name="size_binned",
    summary="a percentile of the healthy slices in the same bin of brain area",
    guarantee="none in finite samples; the target is met within every bin with many healthy "
    "subjects",
    assumes="within a bin, slices to be judged are drawn like the healthy ones",
    source="ours",
    shape=by_size,
)
