"""Scores under one contract; importing this package registers all of them."""

from twinvae.scoring import elbo, image, latent, learned, saliency, trivial
from twinvae.scoring.batch import Fitted, Models, SliceBatch, moved, read_fitted, write_fitted
from twinvae.scoring.fitted import score_and_fit
from twinvae.scoring.loop import (
    batches,
    map_rows,
    score_batch,
    score_batches,
    score_slices,
    score_table,
    scored_rows,
    write_maps,
)
from twinvae.scoring.registry import (
    MAPS,
    SCORES,
    AbnormalityMap,
    Score,
    load_external,
    require_fitted,
    select_maps,
    select_scores,
)
from twinvae.scoring.table import read_scores, write_scores

__all__ = [
    "MAPS",
    "SCORES",
    "AbnormalityMap",
    "Fitted",
    "Models",
    "Score",
    "SliceBatch",
    "batches",
    "elbo",
    "image",
    "latent",
    "learned",
    "load_external",
    "map_rows",
    "moved",
    "read_fitted",
    "read_scores",
    "require_fitted",
    "saliency",
    "score_and_fit",
    "score_batch",
    "score_batches",
    "score_slices",
    "score_table",
    "scored_rows",
    "select_maps",
    "select_scores",
    "trivial",
    "write_fitted",
    "write_maps",
    "write_scores",
]

load_external()
