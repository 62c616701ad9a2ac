"""How well maps find the tumour's pixels: rows of level ``pixel`` in metrics.tsv.

Every pixel inside the brain of the prepared test slices counts once, tumour or not. Pixels are
counted, subject by subject, in bins between fixed quantiles of the map, so that memory does not
grow with the cohort and a resample of subjects is a sum of counts. Pixels of one bin count as
equal: what that costs is below 0.001 in AUROC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.evaluation.metrics import METRICS_COLUMNS
from twinvae.evaluation.resampling import (
    FloatArray,
    IntArray,
    interval,
    multiplicities,
    one_blas_thread,
    ratio,
)
from twinvae.vocabulary import SUBJECT_KEY

BINS = 1000  # between quantiles evenly spaced, and as many again towards the highest values
_SAMPLE = 1_000_000  # pixels that the quantiles are taken of
_CHUNK = 128  # slices looked at together
_RESAMPLES = 128  # resamples computed together


@dataclass(frozen=True)
class MaskedSlices:
    """Test slices of mixed sources with tumour masks; arrays (n, H, W) may be memory-mapped."""

    brain: npt.NDArray[np.uint8]
    tumour: npt.NDArray[np.uint8]
    rows: IntArray
    """Rows of ``brain`` and ``tumour`` that the maps' slices stand in, in the maps' order; (n,)."""
    index: pd.DataFrame
    """``source`` and ``subject`` of those rows, in that order."""


@one_blas_thread()
def evaluate_pixels(
    maps: Mapping[str, npt.NDArray[np.float32]],
    slices: MaskedSlices,
    config: EvaluationConfig,
    *,
    seed: int = 0,
    split: str = "test",
) -> pd.DataFrame:
    """Metrics of every map (slices, H, W): ``auroc``, ``average_precision``, ``dice_best``,
    ``prevalence``.

    ``dice_best`` is the highest Dice overlap over all cut-offs, chosen knowing the masks: an upper
    bound. ``n_pos`` and ``n_neg`` count pixels; ``score`` is the map's name. Intervals and subsets
    are as in ``evaluate``.
    """
    rows: list[dict[str, object]] = []
    sources = sorted(slices.index["source"].unique())
    subsets = {"mixed": np.ones(len(slices.index), bool)}
    if len(sources) > 1:
        subsets |= {f"mixed:{s}": (slices.index["source"] == s).to_numpy() for s in sources}
    for subset, chosen in subsets.items():
        places = np.flatnonzero(chosen).astype(np.int64)
        people = slices.index.iloc[places].groupby(list(SUBJECT_KEY), sort=True)
        subject = np.asarray(people.ngroup(), dtype=np.int64)
        draws = multiplicities(people.ngroups, config.resamples, seed)
        head = {"split": split, "level": "pixel", "subset": subset, "min_tumour_px": 0}
        for name, pixels in maps.items():
            counts = count_pixels(pixels, slices, places, subject)
            rows += [{**head, "score": name, **row} for row in _rows(counts, draws)]
    return pd.DataFrame(rows, columns=list(METRICS_COLUMNS))


@dataclass(frozen=True)
class PixelCounts:
    """Brain pixels by subject and bin, bins rising: (subjects, bins)."""

    positive: FloatArray
    negative: FloatArray


def count_pixels(
    pixels: npt.NDArray[np.float32], slices: MaskedSlices, places: IntArray, subject: IntArray
) -> PixelCounts:
    """Count the brain's pixels of the slices ``places``, whose subjects are ``subject``."""
    edges = _edges(pixels, slices, places)
    shape = (int(subject.max(initial=-1)) + 1, len(edges) + 1)
    counts = PixelCounts(np.zeros(shape), np.zeros(shape))
    for start in range(0, len(places), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = slices.rows[places[part]]
        brain, tumour = slices.brain[rows].astype(bool), slices.tumour[rows].astype(bool)
        bins = np.searchsorted(edges, pixels[places[part]], side="right")
        for i, code in enumerate(subject[part]):
            for mine, into in ((tumour[i], counts.positive), (~tumour[i], counts.negative)):
                into[code] += np.bincount(bins[i][brain[i] & mine], minlength=shape[1])
    return counts


def _edges(
    pixels: npt.NDArray[np.float32], slices: MaskedSlices, places: IntArray
) -> npt.NDArray[np.float32]:
    """Rising cut-offs between bins, from evenly chosen brain pixels; finest among the highest."""
    parts: list[npt.NDArray[np.float32]] = []
    each = max(1, _SAMPLE // max(1, len(places)))
    for place in places:
        inside = pixels[place][slices.brain[slices.rows[place]].astype(bool)]
        parts.append(inside[:: max(1, len(inside) // each)])
    sample = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not len(sample):
        return np.zeros(1, np.float32)
    even = np.linspace(0, 1, BINS + 1)
    tail = 1 - np.geomspace(1, 1 / len(sample), BINS + 1)
    return np.unique(np.quantile(sample, np.concatenate([even, tail])).astype(np.float32))


def _rows(counts: PixelCounts, draws: FloatArray) -> Iterator[dict[str, object]]:
    """One row a metric, without split, level, subset and score."""
    once = np.ones((1, len(counts.positive)))
    values = {name: float(value[0]) for name, value in _metrics(counts, once).items()}
    chunks = [
        _metrics(counts, draws[start : start + _RESAMPLES])
        for start in range(0, len(draws), _RESAMPLES)
    ]
    for name, value in values.items():
        resampled = np.concatenate([chunk[name] for chunk in chunks]) if chunks else np.zeros(0)
        low, high = interval(resampled, draws.shape[1])
        yield {
            "metric": name,
            "value": value,
            "ci_low": float("nan") if np.isnan(value) else low,
            "ci_high": float("nan") if np.isnan(value) else high,
            "n_pos": int(counts.positive.sum()),
            "n_neg": int(counts.negative.sum()),
            "n_subjects": draws.shape[1],
        }


def _metrics(counts: PixelCounts, draws: FloatArray) -> dict[str, FloatArray]:
    """Every metric in each row of ``draws`` (resamples, subjects); NaN where undefined."""
    positive, negative = draws @ counts.positive, draws @ counts.negative
    n_pos, n_neg = positive.sum(axis=1), negative.sum(axis=1)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + negative / 2)).sum(axis=1)
    found = np.cumsum(positive[:, ::-1], axis=1)  # called tumour, from the highest bin down
    called = found + np.cumsum(negative[:, ::-1], axis=1)
    precision = found / np.maximum(called, 1)
    steps = np.diff(found, axis=1, prepend=0.0)
    both = np.where((n_pos > 0) & (n_neg > 0), 1.0, np.nan)
    return {
        "auroc": ratio(wins, n_pos * n_neg),
        "average_precision": ratio((steps * precision).sum(axis=1), n_pos) * both,
        "dice_best": ratio(2 * found, called + n_pos[:, None]).max(axis=1) * both,
        "prevalence": ratio(n_pos, n_pos + n_neg),
    }
