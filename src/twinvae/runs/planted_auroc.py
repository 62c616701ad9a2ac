"""The label-free yardstick: how well a run's scores see lesions planted in healthy slices.

Every healthy validation slice is scored as it is and with a lesion planted in it. Both have the
same brain, area and position, so none of these can help, and no tumour label is looked at: presets
may be chosen by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from twinvae.config import RunConfig, ScoringConfig
from twinvae.config.contrast import planted_contrast
from twinvae.errors import CalibrationError
from twinvae.evaluation.auroc import raw_auroc
from twinvae.evaluation.resampling import interval, multiplicities
from twinvae.evaluation.subsets import subject_codes
from twinvae.imaging import SliceStore
from twinvae.planting import Planting, plant_in_slices
from twinvae.runs.folder import Run
from twinvae.scoring import Models, score_and_fit, select_scores
from twinvae.scoring.table import score_columns
from twinvae.training import Compute, to_tensor
from twinvae.vocabulary import FULL_SCALE

YARDSTICK_COLUMNS = ("score", "auroc", "ci_low", "ci_high", "n_slices", "n_subjects")
_BATCH = 256


@dataclass(frozen=True)
class PlantedSlices:
    """Healthy slices, and after them those of validation once more, each with a lesion.

    Lesioned ones have the role "mixed" and their lesion's pixels as ``tumour_px``, like all pixels
    of an index on the scan's own grid (at least 1): what scores learn from healthy slices, they
    learn from the others.
    """

    images: NDArray[np.uint16]
    brain: NDArray[np.uint8]
    index: pd.DataFrame
    mirror: NDArray[np.uint16] | None = None
    """Of the slices without their lesions."""

    @property
    def judged(self) -> NDArray[np.int64]:
        """Rows of the validation slices, with and without a lesion."""
        return np.flatnonzero(self.index["split"] == "val").astype(np.int64)


def planted_aurocs(
    run: Run, *, planting: Planting | None = None, seed: int = 0, resamples: int = 500
) -> pd.DataFrame:
    """AUROC of every score of a trained run, planted against unplanted validation slices.

    ``planting`` says what is planted, by default lesions of the run's contrast; the same ``seed``
    plants the same lesions whatever the models. See ``judge_planted`` for what is returned.
    """
    compute = Compute.resolve(run.config.compute)
    models = Models.load(run.models).to(compute.device)
    planted = plant(SliceStore.open(run.slices), planting or planting_for(run.config), seed)
    return judge_planted(planted, models, run.config.scoring, compute, resamples=resamples)


def planting_for(config: RunConfig) -> Planting:
    """Lesions of the configuration's contrast; of either sign where it is not one we know."""
    return Planting(contrast=planted_contrast(config.contrast))


def plant(store: SliceStore, planting: Planting, seed: int) -> PlantedSlices:
    """Plant a lesion in every healthy validation slice of ``store``.

    Raises ``CalibrationError`` when there is none.
    """
    healthy, val = store.select("healthy"), store.select("healthy", "val")
    if not len(val):
        raise CalibrationError(f"{store.folder}: expected healthy validation slices, found none")
    images, tumour_px = _with_lesions(store, val, planting, seed)
    twins = store.index.iloc[val].assign(role="mixed")
    finer = (twins["pixel_mm"] / twins["spacing_mm"]).to_numpy(np.float64)
    mirror = store.mirror
    twins["tumour_px"] = np.maximum(1, np.rint(tumour_px * finer**2)).astype(np.int64)
    return PlantedSlices(
        images=np.concatenate([store.images[healthy], images]),
        brain=np.concatenate([store.brain[healthy], store.brain[val]]),
        index=pd.concat([store.index.iloc[healthy], twins], ignore_index=True),
        mirror=None if mirror is None else np.concatenate([mirror[healthy], mirror[val]]),
    )


def judge_planted(
    planted: PlantedSlices,
    models: Models,
    options: ScoringConfig,
    compute: Compute,
    *,
    resamples: int = 500,
) -> pd.DataFrame:
    """One row a score with ``YARDSTICK_COLUMNS``, the best first.

    The 95 % interval resamples subjects. Scores that learn from healthy validation slices judge an
    unplanted slice by a fit without its subject, a planted one by a fit on all: their AUROC errs a
    little on the low side.
    """
    # Every slice of a planted scan has a lesion of its own, so that neighbours would tell too much.
    scores = [score for score in select_scores(options.scores, models) if not score.context]
    table, _ = score_and_fit(planted, planted.judged, models, scores, options, compute)
    positive = (table["role"] == "mixed").to_numpy()
    subject, n_subjects = subject_codes(table)
    draws = multiplicities(n_subjects, resamples, seed=0)
    rows = []
    for name in score_columns(table):
        found = raw_auroc(table[name].to_numpy(), positive, subject, draws)
        low, high = interval(found.draws, n_subjects)
        rows.append((name, found.value, low, high, int(positive.sum()), n_subjects))
    judged = pd.DataFrame(rows, columns=list(YARDSTICK_COLUMNS))
    return judged.sort_values("auroc", ascending=False, ignore_index=True)


def _with_lesions(
    store: SliceStore, rows: NDArray[np.int64], planting: Planting, seed: int
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """The slices ``rows`` with lesions, stored as slices are, and the lesions' stored pixels."""
    generator = torch.Generator().manual_seed(seed)
    images, counts = [], []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        brain = torch.from_numpy(store.brain[part].astype(bool)).unsqueeze(1)
        pixel_mm = torch.from_numpy(store.index["pixel_mm"].to_numpy(np.float32)[part])
        x = to_tensor(store.images[part], torch.device("cpu"))
        result = plant_in_slices(x, brain, generator, pixel_mm=pixel_mm, options=planting)
        stored = (result.images.squeeze(1) * FULL_SCALE).round()
        images.append(stored.numpy().astype(np.uint16))
        counts.append(result.masks.flatten(1).sum(1).numpy())
    return np.concatenate(images), np.concatenate(counts)
