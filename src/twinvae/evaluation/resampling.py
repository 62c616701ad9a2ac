"""Bootstrap over subjects: slices of one subject are not independent, so whole subjects are drawn.

A resample is a row of multiplicities, how often each subject was drawn. Every metric here is a
function of sums over subjects or over pairs of subjects, so that all resamples are matrix products,
or of sums down the sorted slices (``sweep``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
AnyFloat = npt.NDArray[np.floating[Any]]
"""In the precision that the caller chose."""

LEVEL = 0.95
"""Coverage the intervals aim at."""
MIN_DEFINED = 0.9
"""Share of resamples in which a metric must be defined for an interval to be given."""

Estimate = dict[str, float | None]
"""``value``, ``ci_low`` and ``ci_high``; None where undefined."""


@dataclass(frozen=True)
class Resampled:
    """A metric and what it is in every resample."""

    value: float
    """NaN where it is undefined."""
    draws: FloatArray
    """(resamples,), NaN where it is undefined."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep matrix products on one thread meanwhile.

    They are many and small here: more threads gain nothing on an idle machine, and on a busy one
    their waiting for each other made an evaluation seven times slower. (threadpoolctl comes with
    scikit-learn.)
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1, user_api="blas"):
        yield


def multiplicities(n_subjects: int, resamples: int, seed: int, stream: int = 0) -> FloatArray:
    """How often each subject is drawn: (resamples, n_subjects) whole numbers as float64.

    Each row sums to ``n_subjects``: that many draws with replacement, all subjects alike. The
    same seed, sizes and ``stream`` (at least 0) give the same rows, so that all scores are
    compared on the same resamples.
    """
    if n_subjects == 0:
        return np.zeros((resamples, 0))
    rng = np.random.default_rng(np.random.SeedSequence([seed, n_subjects, stream]))
    share = np.full(n_subjects, 1.0 / n_subjects)
    drawn = rng.multinomial(n_subjects, share, size=resamples)
    return np.asarray(drawn, dtype=np.float64)


def stratified_multiplicities(strata: IntArray, resamples: int, seed: int) -> FloatArray:
    """As ``multiplicities``, drawing within each stratum; ``strata``: (n_subjects,) codes >= 0."""
    counts = np.zeros((resamples, len(strata)))
    for code in np.unique(strata):
        mine = np.flatnonzero(strata == code)
        counts[:, mine] = multiplicities(len(mine), resamples, seed, stream=int(code) + 1)
    return counts


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> FloatArray:
    """``numerator / denominator``, NaN where the denominator is 0."""
    top = np.asarray(numerator, dtype=np.float64)
    bottom = np.asarray(denominator, dtype=np.float64)
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    out = np.full(shape, np.nan)
    np.divide(top, bottom, out=out, where=np.broadcast_to(bottom != 0, shape))
    return out


def interval(values: FloatArray, n_subjects: int) -> tuple[float, float]:
    """Percentile interval of resampled ``values`` (resamples,), NaN where a metric is undefined.

    ``n_subjects``: independent subjects behind the value; of two classes, those of the class with
    fewer. Plain percentiles make intervals that are too short when these are few, so the quantiles
    lie as much farther out as Student's t distribution and the factor √(n/(n − 1)) ask: Hesterberg,
    "What teachers should know about the bootstrap", The American Statistician 69 (2015), calls this
    the expanded percentile interval. With many subjects the two agree.

    (NaN, NaN) when there are fewer than two subjects or no resamples, or when less than
    ``MIN_DEFINED`` of the resamples have a value: leaving many out would bend the interval.
    """
    defined = values[np.isfinite(values)]
    if n_subjects < 2 or not len(values) or len(defined) < MIN_DEFINED * len(values):
        return float("nan"), float("nan")
    tail = tail_share(n_subjects)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


@cache
def tail_share(n_subjects: int) -> float:
    """Share of resamples beyond each end of an interval over ``n_subjects`` (at least 2)."""
    freedom = n_subjects - 1
    reach = stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(n_subjects / freedom)
    return float(ndtr(-reach))


def fewer_subjects(positive: BoolArray, subject: IntArray) -> int:
    """How many subjects have a positive slice, or a negative one, whichever are fewer."""
    return min(len(np.unique(subject[chosen])) for chosen in (positive, ~positive))


def null(value: float) -> float | None:
    """None for NaN, which JSON does not know."""
    return None if np.isnan(value) else float(value)


def summary(found: Resampled, n_subjects: int) -> Estimate:
    """A metric with its interval over ``n_subjects`` independent subjects (see ``interval``)."""
    known = not np.isnan(found.value)
    low, high = interval(found.draws, n_subjects) if known else (np.nan, np.nan)
    return {"value": null(found.value), "ci_low": null(low), "ci_high": null(high)}
