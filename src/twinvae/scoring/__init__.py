"""Scores under one contract; importing this package registers all of them."""

from twinvae.scoring import image, latent, trivial
from twinvae.scoring.batch import Models, SliceBatch
from twinvae.scoring.registry import SCORES, Score, select_scores
from twinvae.scoring.score import batches, score_slices

__all__ = [
    "SCORES",
    "Models",
    "Score",
    "SliceBatch",
    "batches",
    "image",
    "latent",
    "score_slices",
    "select_scores",
    "trivial",
]
