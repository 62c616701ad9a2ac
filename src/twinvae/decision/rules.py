"""The calibration rules, one after the other, and how each is fitted on healthy slices.

A rule sees healthy validation slices and gives a ``Shape``: how the score's level and spread depend
on brain area, and which slices are compared with which. All the rest is the same for every rule:
scores are standardised by the shape, thresholds and p-values are set among the healthy slices of
the same bin. A new rule is a function and a ``Rule`` here, an entry in ``RULES``, and its name
in the configuration (``config/run.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from twinvae.config import DecisionConfig
from twinvae.decision.cutoffs import (
    Unit,
    conformal_cutoffs,
    percentile_cutoffs,
    require_supported,
    weights,
)
from twinvae.decision.left_out import Pool
from twinvae.decision.thresholds import (
    BoolArray,
    Curve,
    FittedRule,
    FloatArray,
    IntArray,
    Places,
    Ranks,
    Shape,
)


@dataclass(frozen=True)
class Healthy:
    """Healthy validation slices with one score, all arrays (n,)."""

    score: FloatArray
    places: Places
    subject: IntArray
    """Code of the subject."""

    def only(self, chosen: BoolArray | IntArray) -> Healthy:
        """The chosen ones."""
        return Healthy(self.score[chosen], self.places.only(chosen), self.subject[chosen])


@dataclass(frozen=True)
class Rule:
    """One way to set thresholds, and what it promises."""

    name: str
    summary: str
    """One line."""
    guarantee: str
    """What is promised of false positives, for the reader of a calibration."""
    assumes: str
    """Under which conditions."""
    source: str
    shape: Callable[[Healthy, DecisionConfig], Shape]
    """Learns how the threshold depends on the slice."""
    conformal: bool = False
    """Whether thresholds are conformal, else percentiles."""
    unit: Unit = "slice"
    """What counts as one observation unless the configuration says."""
    folds: int = 100
    """Subjects are left out one by one, or in so many groups when there are more of them. A rule
    with the same threshold for every slice leaves them out one by one in any case."""


def flat(healthy: Healthy, config: DecisionConfig) -> Shape:
    """The same threshold for every slice."""
    return Shape()


PERCENTILE = Rule(
    name="percentile",
    summary="one threshold: a percentile of healthy validation slices",
    guarantee="none in finite samples; the share of healthy slices at or above the threshold "
    "tends to the target with many healthy subjects",
    assumes="slices to be judged are drawn like the healthy validation slices, whatever their "
    "brain area; slices of one subject count as if they were independent",
    source="Albu, Enescu and Malagò 2020",
    shape=flat,
)


def line(healthy: Healthy, config: DecisionConfig) -> Shape:
    """Level: the least-squares line of score on brain area, level beyond the areas seen."""
    size, score = healthy.places.size, healthy.score
    if np.ptp(size) == 0 or np.ptp(score) == 0:
        return Shape()
    ends = np.array([size.min(), size.max()])
    slope, at_zero = np.polyfit(size, score, 1)
    return Shape(level=Curve(ends, at_zero + slope * ends))


SIZE_LINEAR = Rule(
    name="size_linear",
    summary="a line in brain area, raised by a percentile of the residuals",
    guarantee="none in finite samples; the target is met on average over slices with many "
    "healthy subjects, and at every brain area if the assumption holds",
    assumes="healthy scores are a straight line in brain area plus noise that is the same at "
    "every area",
    source="ours, the simplest threshold that depends on brain size",
    shape=line,
)


def by_size(healthy: Healthy, config: DecisionConfig) -> Shape:
    """``decision.bins`` bins of equally many healthy slices."""
    return Shape(size_edges=equal_bins(healthy.places.size, config.bins))


def equal_bins(values: FloatArray, bins: int) -> tuple[float, ...]:
    """The inner edges of ``bins`` bins of about equally many ``values``."""
    return tuple(np.unique(np.quantile(values, np.arange(1, bins) / bins)).tolist())


SIZE_BINNED = Rule(
    name="size_binned",
    summary="a percentile of the healthy slices in the same bin of brain area",
    guarantee="none in finite samples; the target is met within every bin with many healthy "
    "subjects",
    assumes="within a bin, slices to be judged are drawn like the healthy ones",
    source="ours",
    shape=by_size,
)


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


SIZE_QUANTILE = Rule(
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

CONFORMAL = Rule(
    name="conformal",
    summary="a rank among healthy validation slices or subjects (split conformal)",
    guarantee="unit subject: a slice drawn at random from a new healthy subject is called "
    "abnormal with at most the target probability, on average over calibrations; unit slice: the "
    "same only if slices were exchangeable, which slices of one subject are not",
    assumes="the new subject is exchangeable with the healthy validation subjects, none of whom "
    "was trained on",
    source="Vovk, Gammerman and Shafer 2005; subjects: Lee, Barber and Willett 2023",
    shape=flat,
    conformal=True,
    unit="subject",
)


def by_size_and_position(healthy: Healthy, config: DecisionConfig) -> Shape:
    """``decision.bins`` bins of brain area, crossed with ``decision.position_bins``."""
    return Shape(
        size_edges=equal_bins(healthy.places.size, config.bins),
        position_edges=equal_bins(healthy.places.position, config.position_bins),
    )


MONDRIAN = Rule(
    name="mondrian",
    summary="a rank among healthy slices or subjects in the same bin of brain area and position",
    guarantee="unit subject: a slice drawn at random from those of a new healthy subject in a bin "
    "is called abnormal with at most the target probability, on average over calibrations, in "
    "every bin; nearly, as bins end at quantiles of the healthy slices' own areas and positions; "
    "unit slice: the same only if slices were exchangeable, which slices of one subject are not",
    assumes="the new subject is exchangeable with the healthy validation subjects, none of whom "
    "was trained on",
    source="Vovk, Gammerman and Shafer 2005 (Mondrian conformal predictors)",
    shape=by_size_and_position,
    conformal=True,
    unit="subject",
)

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (PERCENTILE, SIZE_LINEAR, SIZE_BINNED, SIZE_QUANTILE, CONFORMAL, MONDRIAN)
}
"""Every rule by name."""


def unit_of(rule: Rule, config: DecisionConfig) -> Unit:
    """What counts as one observation."""
    return rule.unit if config.unit == "auto" else config.unit


def fit_rule(
    rule: Rule, healthy: Healthy, config: DecisionConfig, *, check: bool = False
) -> FittedRule:
    """Fit ``rule`` on healthy slices, at least one.

    With ``check`` it raises ``CalibrationError`` for a percentile that they cannot support.
    """
    unit = unit_of(rule, config)
    shape = rule.shape(healthy, config)
    standardised = shape.standardised(healthy.score, healthy.places)
    bins = shape.bin_of(healthy.places)
    cut: Callable[..., FloatArray] = conformal_cutoffs if rule.conformal else percentile_cutoffs
    cutoffs, ranks = [], []
    for number in range(shape.bins):
        mine = bins == number
        weight, count = weights(healthy.subject[mine], unit)
        for percentile in config.percentiles if check else ():
            what = f"healthy validation {unit}s{shape.describe_bin(number)}"
            require_supported(percentile, round(count), what, conformal=rule.conformal)
        cutoffs.append(cut(standardised[mine], weight, config.percentiles))
        just_below = np.nextafter(cutoffs[-1], -np.inf)
        ranks.append(Ranks.of(standardised[mine], weight, keep=just_below))
    return FittedRule(shape, np.stack(cutoffs, axis=1), tuple(ranks))


@dataclass(frozen=True)
class OutOfFold:
    """What a rule says of healthy slices when it has not seen their subject."""

    called: BoolArray
    """(percentiles, n)."""
    p_value: FloatArray
    """(n,)."""
    least: FloatArray
    """(n,): the smallest p-value each could have had."""


def leave_one_out(rule: Rule, healthy: Healthy, config: DecisionConfig) -> OutOfFold | None:
    """Judge each subject's slices by the rule fitted on all others; None with one subject.

    A rule whose shape is learned leaves out several subjects at a time where they are more than
    ``Rule.folds``.
    """
    codes, subject = np.unique(healthy.subject, return_inverse=True)
    if len(codes) < 2:
        return None
    n = len(healthy.score)
    called = np.zeros((len(config.percentiles), n), bool)
    p_value, least = np.ones(n), np.ones(n)
    for mine, fitted in _without_each(rule, healthy, subject, config):
        own = healthy.only(mine)
        called[:, mine] = fitted.called(own.score, own.places)
        p_value[mine], least[mine] = fitted.p_values(own.score, own.places)
    return OutOfFold(called, p_value, least)


def _without_each(
    rule: Rule, healthy: Healthy, subject: IntArray, config: DecisionConfig
) -> Iterator[tuple[IntArray, FittedRule]]:
    """Places of the slices left out, and the rule fitted without them."""
    if rule.shape is flat:
        for mine, rest in Pool(healthy.score, subject, unit_of(rule, config)).leave_each_out():
            cut = rest.conformal if rule.conformal else rest.percentiles
            cutoffs = cut(config.percentiles)
            ranks = rest.ranks(keep=np.nextafter(cutoffs, -np.inf))
            yield mine, FittedRule(Shape(), cutoffs[:, None], (ranks,))
        return
    fold = subject % min(len(np.unique(subject)), rule.folds)
    for left_out in np.unique(fold):
        mine = np.flatnonzero(fold == left_out)
        yield mine, fit_rule(rule, healthy.only(fold != left_out), config)
