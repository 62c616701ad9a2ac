"""A threshold that follows brain area along smooth curves, by quantile regression."""

from __future__ import annotations

import numpy as np

from twinvae.config import DecisionConfig
from twinvae.decision.rule import Curve, Rule, Shape
from twinvae.decision.sample import FloatArray, Healthy

_UPPER = 0.9
"""The curve that tells the spread. Far fewer slices determine a 99th-percentile curve; that
percentile is taken of the standardised scores instead."""
_KNOTS = 4
_ENOUGH = 800  # slices that determine two curves well; the linear programme grows quickly
_DRAWN = 33  # points each curve is kept at
_NARROWEST = 0.1  # of the median spread


def curves(healthy: Healthy, config: DecisionConfig) -> Shape:
    """Level: the median given brain area. Spread: from there to the 90th percentile.

    Cubic splines with knots at quantiles of the area (Koenker and Bassett 1978 for the
    regression), from every k-th slice when there are very many; level beyond the areas seen.
    """
    # Here, since it takes a second and applying thresholds needs none of it.
    from sklearn.linear_model import QuantileRegressor
    from sklearn.preprocessing import SplineTransformer

    size, score = _thinned(healthy)
    at = np.linspace(size.min(), size.max(), _DRAWN)
    knots = np.unique(np.quantile(size, np.linspace(0, 1, _KNOTS)))
    if len(knots) < 2 or np.ptp(score) == 0:
        return Shape()
    basis = SplineTransformer(knots=knots[:, None], include_bias=False)
    seen, drawn = basis.fit_transform(size[:, None]), basis.transform(at[:, None])
    unit = float(np.ptp(score))  # the solver's tolerances are absolute
    median, upper = (
        QuantileRegressor(quantile=q, alpha=0, solver="highs").fit(seen, score / unit)
        for q in (0.5, _UPPER)
    )
    level = median.predict(drawn) * unit
    spread = upper.predict(drawn) * unit - level
    typical = float(np.median(spread))
    if typical <= 0:
        return Shape(level=Curve(at, level))
    return Shape(Curve(at, level), Curve(at, np.maximum(spread, _NARROWEST * typical)))


def _thinned(healthy: Healthy) -> tuple[FloatArray, FloatArray]:
    """Sizes and scores of at most ``_ENOUGH`` slices, spread over the range of sizes."""
    order = np.argsort(healthy.places.size, kind="stable")
    places = np.linspace(0, len(order) - 1, min(len(order), _ENOUGH)).round().astype(np.int64)
    chosen = order[places]
    return healthy.places.size[chosen], healthy.score[chosen]


RULE = Rule(
    name="size_quantile",
    summary="smooth curves of level and spread in brain area, by quantile regression",
    guarantee="none in finite samples; the target is met on average over slices with many "
    "healthy subjects, and at every brain area if the assumption holds",
    assumes="level and spread of healthy scores change smoothly with brain area, the form of "
    "their distribution does not",
    source="ours; regression quantiles of Koenker and Bassett 1978",
    shape=curves,
    folds=10,
)
