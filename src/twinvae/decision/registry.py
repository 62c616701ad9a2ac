"""Every calibration rule by name; a new one is its file, its line here, its name in the config."""

from __future__ import annotations

from twinvae.decision import (
    conformal,
    mondrian,
    percentile,
    size_binned,
    size_linear,
    size_quantile,
)
from twinvae.decision.rule import Rule

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        percentile.RULE,
        size_linear.RULE,
        size_binned.RULE,
        size_quantile.RULE,
        conformal.RULE,
        mondrian.RULE,
    )
}
