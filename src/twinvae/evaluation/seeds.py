"""Scores of several training seeds judged together: seeds kept apart from subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from twinvae.config import EvaluationConfig
from twinvae.errors import DataError
from twinvae.evaluation.adjusted import KINDS, ThreeAurocs, metric_of
from twinvae.evaluation.resampling import (
    FloatArray,
    Resampled,
    fewer_subjects,
    interval,
    multiplicities,
    one_blas_thread,
)
from twinvae.evaluation.rivals import best_trivial
from twinvae.evaluation.subsets import known_mixed, sample_of

OVER_SEEDS_COLUMNS = (
    "score", "metric", "value", "ci_low", "ci_high", "seed_sd", "seeds",
    "n_pos", "n_neg", "n_subjects",
    "rival", "rival_value", "difference", "difference_low", "difference_high",
)  # fmt: skip
_KEYS = ("source", "subject", "session", "slice")


@one_blas_thread()
def over_seeds(
    tables: Sequence[pd.DataFrame], config: EvaluationConfig, *, seed: int = 0, split: str = "test"
) -> pd.DataFrame:
    """Each kind of AUROC of every score, over seeds and subjects, beside the best rival.

    ``tables``: checked score tables of the same slices, one a training seed. Returns a row a score
    and metric with the columns ``OVER_SEEDS_COLUMNS``: ``value`` is the mean over seeds;
    ``seed_sd`` the standard deviation between them (NaN of one); the 95 % interval resamples
    subjects, the same ones in every seed, and seeds, so it holds for another training on other
    subjects. ``rival`` is the trivial score of the highest value, ``difference`` the lead over it,
    on the same resamples. Raises ``DataError`` when the tables hold different slices or scores.
    """
    rows = [_sorted(known_mixed(table, split)) for table in tables]
    _require_alike(rows)
    sample = sample_of(rows[0])
    positive = sample.positive(config.headline_min_tumour_px)
    n_independent = fewer_subjects(positive, sample.subject)
    people = multiplicities(sample.n_subjects, config.resamples, seed)
    trainings = multiplicities(len(rows), config.resamples, seed, stream=1) / len(rows)
    aurocs = [ThreeAurocs(sample_of(part), positive, people, config) for part in rows]
    each = {name: [dict(one.of(name)) for one in aurocs] for name in sample.scores}
    found = []
    for kind in KINDS:
        values = {n: np.array([one[kind].value for one in of]) for n, of in each.items()}
        drawn = {n: _drawn([one[kind] for one in of], trainings) for n, of in each.items()}
        rival = best_trivial({name: one.mean() for name, one in values.items()})
        for name in sample.scores:
            low, high = interval(drawn[name], n_independent)
            row = {
                "score": name,
                "metric": metric_of(kind),
                "value": values[name].mean(),
                "ci_low": low,
                "ci_high": high,
                "seed_sd": values[name].std(ddof=1) if len(rows) > 1 else np.nan,
                "seeds": len(rows),
                "n_pos": int(positive.sum()),
                "n_neg": int((~positive).sum()),
                "n_subjects": sample.n_subjects,
            }
            if rival is not None:
                lead = interval(drawn[name] - drawn[rival], n_independent)
                row |= {
                    "rival": rival,
                    "rival_value": values[rival].mean(),
                    "difference": values[name].mean() - values[rival].mean(),
                    "difference_low": lead[0],
                    "difference_high": lead[1],
                }
            found.append(row)
    return pd.DataFrame(found, columns=list(OVER_SEEDS_COLUMNS))


def _keys(rows: pd.DataFrame) -> list[str]:
    return [name for name in _KEYS if name in rows.columns]


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(_keys(rows), kind="stable").reset_index(drop=True)


def _require_alike(rows: Sequence[pd.DataFrame]) -> None:
    first = rows[0]
    for number, part in enumerate(rows[1:], 2):
        if list(part.columns) != list(first.columns):
            unlike = sorted(set(part.columns) ^ set(first.columns))
            raise DataError(
                f"seed {number}: expected the scores of the first, found {unlike} in one"
            )
        if not part[_keys(part)].equals(first[_keys(first)]):
            raise DataError(
                f"seed {number}: expected the {len(first)} slices of the first, found others"
            )


def _drawn(seeds: Sequence[Resampled], trainings: FloatArray) -> FloatArray:
    """The mean over drawn seeds of the AUROC among drawn subjects, for every resample."""
    each = np.column_stack([one.draws for one in seeds])
    # A seed that is not drawn must not spoil the mean by being undefined.
    return np.asarray(np.where(trainings > 0, trainings * each, 0).sum(axis=1))
