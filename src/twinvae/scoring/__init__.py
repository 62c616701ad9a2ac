"""Scores under one contract; importing this package registers all of them."""

from twinvae.scoring import image, latent, trivial
from twinvae.scoring.batch import Models, SliceBatch
from twinvae.scoring.registry import SCORES, Score, select_scores
from twinvae.scoring.score import batches, score_batch, score_slices, score_table, scored_rows
from twinvae.scoring.table import read_scores, write_scores

__all__ = [
    "SCORES",
    "Models",
    "Score",
    "SliceBatch",
    "batches",
    "image",
    "latent",
    "read_scores",
    "score_batch",
    "score_slices",
    "score_table",
    "scored_rows",
    "select_scores",
    "trivial",
    "write_scores",
]
