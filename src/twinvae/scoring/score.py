"""Scoring slices: the stage's work, shared by runs and by detection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from twinvae.config import ScoringConfig
from twinvae.progress import progress_bar
from twinvae.scoring.batch import Fitted, Models, SliceBatch
from twinvae.scoring.context import in_context
from twinvae.scoring.registry import Score
from twinvae.scoring.table import KEY_COLUMNS, SPACING
from twinvae.training import Compute, to_tensor


class Slices(Protocol):
    """Prepared slices: a slice store, or one scan just prepared."""

    @property
    def images(self) -> NDArray[np.uint16]:
        """(n, H, W), intensity in [0, 1] times 65535."""

    @property
    def brain(self) -> NDArray[np.uint8]:
        """(n, H, W), 1 inside the brain."""

    @property
    def index(self) -> pd.DataFrame:
        """One row a slice, columns as in slices/index.tsv."""


def scored_rows(slices: Slices) -> NDArray[np.int64]:
    """Rows of the slices that thresholds and tests need, in the order a run scores them."""
    return np.flatnonzero(slices.index["split"] != "train").astype(np.int64)


def batches(
    slices: Slices,
    rows: NDArray[np.int64],
    models: Models,
    options: ScoringConfig,
    compute: Compute,
    fitted: Fitted | None = None,
) -> Iterator[SliceBatch]:
    """The slices ``rows`` in that order, ``options.batch_size`` at a time."""
    for start in range(0, len(rows), options.batch_size):
        part = rows[start : start + options.batch_size]
        index = slices.index.iloc[part]
        numbers = {
            name: torch.from_numpy(index[name].to_numpy(np.float32)).to(compute.device)
            for name in ("position", "brain_px", "spacing_mm", "pixel_mm")
        }
        brain = torch.from_numpy(slices.brain[part].astype(bool)).unsqueeze(1)
        yield SliceBatch(
            to_tensor(slices.images[part], compute.device),
            brain.to(compute.device),
            position=numbers["position"],
            brain_mm2=numbers["brain_px"] * numbers["spacing_mm"].square(),
            pixel_mm=numbers["pixel_mm"],
            models=models,
            options=options,
            fitted=fitted,
            compute=compute,
        )


def score_slices(
    slices: Slices,
    rows: NDArray[np.int64],
    models: Models,
    scores: Sequence[Score],
    options: ScoringConfig,
    compute: Compute,
    *,
    fitted: Fitted | None = None,
    label: str | None = None,
) -> pd.DataFrame:
    """One row for each of ``rows``: key columns, spacing, then one float64 column a score.

    ``rows`` must hold whole scans when scores in context are among ``scores``.

    ``fitted`` is what fitted scores among them have learned (``fitted.py``). Shows a progress bar
    when ``label`` is given.
    """
    parts = []
    with progress_bar(label or "", len(rows), hidden=label is None) as bar:
        for batch in batches(slices, rows, models, options, compute, fitted):
            parts.append(score_batch(batch, scores, compute))
            bar.advance(len(batch.x))
    return score_table(slices, rows, parts, scores, options)


def score_batch(batch: SliceBatch, scores: Sequence[Score], compute: Compute) -> pd.DataFrame:
    """One row a slice, one float64 column a score."""
    with torch.no_grad(), compute.arithmetic():
        # A score and the same in context begin alike.
        values = {
            each: each(batch).double().cpu().numpy()
            for each in dict.fromkeys(s.compute for s in scores)
        }
    return pd.DataFrame({s.name: values[s.compute] for s in scores})


def score_table(
    slices: Slices,
    rows: NDArray[np.int64],
    parts: Sequence[pd.DataFrame],
    scores: Sequence[Score],
    options: ScoringConfig,
) -> pd.DataFrame:
    """The scored batches of ``rows``, in order, beside the key columns."""
    index = slices.index.iloc[rows].reset_index(drop=True)
    values = pd.concat(parts, ignore_index=True)
    names = [score.name for score in scores if score.context]
    if names:
        values[names] = in_context(
            values[names].to_numpy(), index, options.context, options.baseline
        )
    return pd.concat([index[[*KEY_COLUMNS, SPACING]], values], axis=1)
