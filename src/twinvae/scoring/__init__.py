"""Scores under one contract; importing this package registers all of them."""

from twinvae.scoring import (
    counterparts,
    features,
    gradient,
    healthy,
    image,
    latent,
    mahalanobis,
    occlusion,
    trivial,
    variants,
    zscore,
)
from twinvae.scoring.batch import Fitted, Models, SliceBatch
from twinvae.scoring.external import load_external
from twinvae.scoring.fitted import moved, read_fitted, require_fitted, score_and_fit, write_fitted
from twinvae.scoring.maps import MAPS, AbnormalityMap, select_maps
from twinvae.scoring.pixel_maps import map_batch, map_rows, write_maps
from twinvae.scoring.registry import SCORES, Score, select_scores
from twinvae.scoring.score import batches, score_batch, score_slices, score_table, scored_rows
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
    "counterparts",
    "features",
    "gradient",
    "healthy",
    "image",
    "latent",
    "load_external",
    "mahalanobis",
    "map_batch",
    "map_rows",
    "moved",
    "occlusion",
    "read_fitted",
    "read_scores",
    "require_fitted",
    "score_and_fit",
    "score_batch",
    "score_slices",
    "score_table",
    "scored_rows",
    "select_maps",
    "select_scores",
    "trivial",
    "variants",
    "write_fitted",
    "write_maps",
    "write_scores",
    "zscore",
]

load_external()
