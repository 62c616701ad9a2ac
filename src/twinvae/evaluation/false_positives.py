"""How often thresholds are wrong on slices without tumour: in all, by position and by source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from twinvae.decision import Calibration, called, p_values
from twinvae.evaluation.estimates import Estimate, summary
from twinvae.evaluation.p_values import p_value_calibration
from twinvae.evaluation.resampling import BoolArray, FloatArray, multiplicities, ratio
from twinvae.evaluation.sample import subject_codes
from twinvae.evaluation.strata import by_source, by_third
from twinvae.evaluation.three_aurocs import Resampled


class FalsePositives:
    """The calibrated thresholds on healthy-source and on tumour-free mixed slices."""

    def __init__(
        self,
        healthy: pd.DataFrame,
        free: pd.DataFrame,
        calibration: Calibration,
        resamples: int,
        seed: int,
    ) -> None:
        self._calibration = calibration
        self._groups = {
            where: _Group(rows, resamples, seed)
            for where, rows in (("healthy", healthy), ("tumour_free", free))
        }
        self.n_subjects = {where: group.n_subjects for where, group in self._groups.items()}
        """Subjects of ``healthy`` and of ``tumour_free``."""

    def of(self, score: str) -> list[dict[str, Any]]:
        """What each threshold of a score gives; empty for a score without calibration."""
        if score not in self._calibration["scores"]:
            return []
        found = {
            where: called(self._calibration, group.rows, score)
            for where, group in self._groups.items()
        }
        return [
            {
                "percentile": entry["percentile"],
                "threshold": entry["threshold"],
                "target": entry["target_fpr"],
                "cross_validated": entry["cross_validated_fpr"],
                **self._rates({where: each[place][1] for where, each in found.items()}),
            }
            for place, (entry, _) in enumerate(found["healthy"])
        ]

    def p_values(self, score: str) -> dict[str, Any] | None:
        """How far p-values are from uniform; None for a score without calibration."""
        if score not in self._calibration["scores"]:
            return None
        return {
            where: p_value_calibration(
                p_values(self._calibration, group.rows, score), group.subject, group.draws
            )
            for where, group in self._groups.items()
        }

    def _rates(self, abnormal: dict[str, BoolArray]) -> dict[str, Any]:
        groups = self._groups.items()
        return {
            **{where: group.rate(abnormal[where]) for where, group in groups},
            "by_position": {
                where: group.rates(abnormal[where], by_third(group.rows)) for where, group in groups
            },
            "by_source": {
                where: group.rates(abnormal[where], by_source(group.rows))
                for where, group in groups
            },
        }


class _Group:
    """Slices without tumour, and resamples of their subjects."""

    def __init__(self, rows: pd.DataFrame, resamples: int, seed: int) -> None:
        self.rows = rows
        self.subject, self.n_subjects = subject_codes(rows)
        self.draws: FloatArray = multiplicities(self.n_subjects, resamples, seed)

    def rate(self, abnormal: BoolArray, among: BoolArray | None = None) -> Estimate:
        """Share of the slices ``among`` (by default all) that are called abnormal."""
        chosen = np.ones(len(self.rows), dtype=bool) if among is None else among
        sizes = np.bincount(self.subject[chosen], minlength=self.n_subjects)
        wrong = np.bincount(self.subject[chosen & abnormal], minlength=self.n_subjects)
        value = float(ratio(wrong.sum(), sizes.sum()))
        found = Resampled(value, ratio(self.draws @ wrong, self.draws @ sizes))
        return summary(found, int((sizes > 0).sum()))

    def rates(self, abnormal: BoolArray, parts: dict[str, BoolArray]) -> dict[str, Estimate]:
        """The same for each of several parts."""
        return {name: self.rate(abnormal, among) for name, among in parts.items()}
