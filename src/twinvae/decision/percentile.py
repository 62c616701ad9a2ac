"""The paper's rule: a percentile of healthy validation scores, one threshold for every slice."""

from __future__ import annotations

from twinvae.decision.rule import Rule, flat

RULE = Rule(
    name="percentile",
    summary="one threshold: a percentile of healthy validation slices",
    guarantee="none in finite samples; the share of healthy slices at or above the threshold "
    "tends to the target with many healthy subjects",
    assumes="slices to be judged are drawn like the healthy validation slices, whatever their "
    "brain area; slices of one subject count as if they were independent",
    source="Albu, Enescu and Malagò 2020",
    shape=flat,
)
