"""Mondrian conformal thresholds: within bins of brain area and position."""

from __future__ import annotations

from twinvae.config import DecisionConfig
from twinvae.decision.rule import Rule, Shape, equal_bins
from twinvae.decision.sample import Healthy


def by_size_and_position(healthy: Healthy, config: DecisionConfig) -> Shape:
    """``decision.bins`` bins of brain area, crossed with ``decision.position_bins``."""
    return Shape(
        size_edges=equal_bins(healthy.places.size, config.bins),
        position_edges=equal_bins(healthy.places.position, config.position_bins),
    )


RULE = Rule(
    name="mondrian",
    summary="a rank among healthy slices or subjects in the same bin of brain area and position",
    guarantee="unit subject: a slice drawn at random from those of a new healthy subject in a bin "
    "is called abnormal with at most the target probability, on average over calibrations, in "
    "every bin; nearly, as bins end at quantiles of the healthy slices' own areas and positions; "
    "unit slice: the same only if slices were exchangeable, which slices of one subject are not",
    assumes="the new subject is exchangeable with the healthy validation subjects, none of whom "
    "was trained on",
    source="Vovk, Gammerman and Shafer 2005 (Mondrian conformal predictors)",
    shape=by_size_and_position,
    conformal=True,
    unit="subject",
)
