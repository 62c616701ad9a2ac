"""Split-conformal thresholds: one for every slice, with a finite-sample promise."""

from __future__ import annotations

from twinvae.decision.rule import Rule, flat

RULE = Rule(
    name="conformal",
    summary="a rank among healthy validation slices or subjects (split conformal)",
    guarantee="unit subject: a slice drawn at random from a new healthy subject is called "
    "abnormal with at most the target probability, on average over calibrations; unit slice: the "
    "same only if slices were exchangeable, which slices of one subject are not",
    assumes="the new subject is exchangeable with the healthy validation subjects, none of whom "
    "was trained on",
    source="Vovk, Gammerman and Shafer 2005; subjects: Lee, Barber and Willett 2023",
    shape=flat,
    conformal=True,
    unit="subject",
)
