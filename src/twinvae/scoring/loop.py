"""The one loop over slices: batch by batch through models, scores and maps; tables and files of it.

Runs, detection and reports all go through ``score_batches``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from twinvae.config import ScoringConfig
from twinvae.imaging import new_array
from twinvae.imaging.slabs import Slabs
from twinvae.outputs import replaced
from twinvae.progress import progress_bar
from twinvae.scoring.batch import Fitted, Models, SliceBatch
from twinvae.scoring.registry import AbnormalityMap, Score
from twinvae.scoring.table import KEY_COLUMNS, SPACING
from twinvae.training import Compute, to_tensor
from twinvae.vocabulary import SCAN_KEY

_FWHM_TO_SIGMA = (8 * np.log(2)) ** -0.5
_SCAN = [*SCAN_KEY, "role"]  # role: stand-ins share their patient's name
_CALM = 0.25  # the quantile of a scan's scores that stands for its slices without a tumour


class Slices(Protocol):
    """Prepared slices: a slice store, or one scan just prepared."""

    @property
    def images(self) -> NDArray[np.uint16]:
        """(n, H, W), intensity in [0, 1] times 65535."""

    @property
    def brain(self) -> NDArray[np.uint8]:
        """(n, H, W), 1 inside the brain."""

    @property
    def mirror(self) -> NDArray[np.uint16] | None:
        """(n, H, W), each slice's aligned mirror image, 0 where it has none; or None."""

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
    slabs = Slabs.of_index(slices.index) if models.healthy.slab else None
    for start in range(0, len(rows), options.batch_size):
        part = rows[start : start + options.batch_size]
        slab = None if slabs is None else torch.from_numpy(slabs.cut(slices.images, part))
        index = slices.index.iloc[part]
        numbers = {
            name: torch.from_numpy(index[name].to_numpy(np.float32, copy=True)).to(compute.device)
            for name in ("position", "brain_px", "spacing_mm", "pixel_mm")
        }
        brain = torch.from_numpy(slices.brain[part].astype(bool)).unsqueeze(1)
        aligned = None
        if slices.mirror is not None:
            aligned = to_tensor(slices.mirror[part], compute.device)
        yield SliceBatch(
            to_tensor(slices.images[part], compute.device),
            brain.to(compute.device),
            position=numbers["position"],
            brain_mm2=numbers["brain_px"] * numbers["spacing_mm"].square(),
            pixel_mm=numbers["pixel_mm"],
            models=models,
            options=options,
            slab=None if slab is None else slab.to(compute.device),
            fitted=fitted,
            compute=compute,
            aligned=aligned,
        )


@dataclass(frozen=True)
class ScoredBatch:
    """What was found in one batch of the rows that were asked for."""

    at: slice
    """Its places among these rows."""
    scores: pd.DataFrame
    """One row a slice, one float64 column a score; not yet in context, see ``score_table``."""
    maps: dict[str, NDArray[np.float32]]
    """Every map by name, float32 (n, H, W)."""
    x_h: NDArray[np.float32] | None
    """The healthy reconstruction, float32 (n, H, W) in (0, 1), when it was asked for."""


def score_batches(
    slices: Slices,
    rows: NDArray[np.int64],
    models: Models,
    options: ScoringConfig,
    compute: Compute,
    *,
    scores: Sequence[Score] = (),
    maps: Sequence[AbnormalityMap] = (),
    x_h: bool = False,
    fitted: Fitted | None = None,
    label: str | None = None,
) -> Iterator[ScoredBatch]:
    """Look at the slices ``rows`` in that order, one batch at a time; nothing is kept in between.

    ``fitted`` is what fitted scores and maps have learned (``fitted.py``), on the device of
    ``compute``. What scores, maps and ``x_h`` share of a batch is computed once. Shows a progress
    bar when ``label`` is given.
    """
    at = 0
    with progress_bar(label or "", len(rows), hidden=label is None) as bar:
        for batch in batches(slices, rows, models, options, compute, fitted):
            found = score_batch(batch, scores, compute)
            with torch.no_grad():
                healthy = batch.x_h.cpu().numpy()[:, 0] if x_h else None
            n = len(batch.x)
            yield ScoredBatch(slice(at, at + n), found, map_batch(batch, maps, compute), healthy)
            at += n
            bar.advance(n)


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

    ``rows`` must hold whole scans when scores in context are among ``scores``. ``fitted`` and
    ``label`` as in ``score_batches``.
    """
    done = score_batches(
        slices, rows, models, options, compute, scores=scores, fitted=fitted, label=label
    )
    return score_table(slices, rows, [batch.scores for batch in done], scores, options)


def score_batch(batch: SliceBatch, scores: Sequence[Score], compute: Compute) -> pd.DataFrame:
    """One row a slice, one float64 column a score."""
    with torch.no_grad(), compute.arithmetic():
        # A score and the same in context begin alike.
        values = {
            each: each(batch).double().cpu().numpy()
            for each in dict.fromkeys(s.compute for s in scores)
        }
    return pd.DataFrame({s.name: values[s.compute] for s in scores})


def map_batch(
    batch: SliceBatch, maps: Sequence[AbnormalityMap], compute: Compute
) -> dict[str, NDArray[np.float32]]:
    """Every map of a batch, by name, float32 (n, H, W)."""
    with torch.no_grad(), compute.arithmetic():
        return {entry.name: entry.of(batch).float().cpu().numpy()[:, 0] for entry in maps}


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


def in_context(
    values: NDArray[np.float64], index: pd.DataFrame, fwhm: float, baseline: float = 0.0
) -> NDArray[np.float64]:
    """``values`` (n, scores) smoothed along each scan's slices, less a share of the scan's level.

    A tumour reaches through several slices, most false alarms do not. Slices count by a Gaussian of
    their distance in relative position, so that neither the slices' spacing nor a header that is
    wrong about it matters. A scan that departs from the healthy ones everywhere, by its scanner,
    contrast or skull stripping, does so in its calm slices too: a share of their level is taken
    off. Not all of it, for in a brain with a large tumour they are not quite calm.

    ``index``: one row a slice, columns as in slices/index.tsv. ``fwhm``: of the Gaussian, as a
    share of the brain's height. ``baseline``: the share of the lower quartile of the scan's
    smoothed scores that is taken off. A scan's slices must be given together.
    """
    out = np.empty_like(values)
    sigma = fwhm * _FWHM_TO_SIGMA
    position = index["position"].to_numpy(np.float64)
    for rows in index.groupby(_SCAN, dropna=False).indices.values():
        away = position[rows, None] - position[rows]
        weight = np.exp(-0.5 * (away / sigma) ** 2)
        smooth = weight @ values[rows] / weight.sum(1, keepdims=True)
        out[rows] = smooth - baseline * np.quantile(smooth, _CALM, axis=0)
    return out


def map_rows(slices: Slices) -> NDArray[np.int64]:
    """Rows that maps are written for: test slices of mixed sources with a tumour mask, rising."""
    index = slices.index
    chosen = (index["role"] == "mixed") & (index["split"] == "test") & index["tumour_px"].notna()
    return np.flatnonzero(chosen.to_numpy()).astype(np.int64)


def write_maps(
    folder: Path,
    slices: Slices,
    models: Models,
    maps: Sequence[AbnormalityMap],
    options: ScoringConfig,
    compute: Compute,
    fitted: Fitted | None = None,
) -> None:
    """Write ``NAME.npy``, float32 (rows, H, W) in the order of ``map_rows``, one batch at a time.

    The folder holds just these maps afterwards; without maps there is none.
    """
    rows = map_rows(slices)
    with replaced(folder, "maps") as room:
        shape = (len(rows), *slices.images.shape[1:])
        files = {
            entry.name: new_array(room / f"{entry.name}.npy", np.float32, shape) for entry in maps
        }
        for batch in score_batches(
            slices, rows, models, options, compute, maps=maps, fitted=fitted, label="maps"
        ):
            for name, values in batch.maps.items():
                files[name][batch.at] = values
        for file in files.values():
            file.flush()
