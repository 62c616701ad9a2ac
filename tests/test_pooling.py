"""Pooling of folds: every model's scores on one scale, whatever scale the model had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from evaluation.simulated import simulated_scores
from twinvae.config import DecisionConfig
from twinvae.decision import calibrate
from twinvae.files import write_json
from twinvae.runs.crossval import pooled_scores
from twinvae.scoring import write_scores

DECISION = DecisionConfig(percentiles=(95.0, 90.0), scan_percentile=70.0)


@dataclass
class Fold:
    """What pooling reads of a fold's run."""

    scores: Path
    calibration: Path


def fold(table: pd.DataFrame, folder: Path) -> Any:
    folder.mkdir()
    made = Fold(folder / "scores.tsv", folder / "calibration.json")
    write_scores(made.scores, table)
    write_json(made.calibration, calibrate(table, DECISION))
    return cast(Any, made)


def test_scores_are_less_their_threshold_in_healthy_deviations(tmp_path: Path) -> None:
    table = simulated_scores()
    pooled = pooled_scores([fold(table, tmp_path / "a")])
    healthy = table[(table["role"] == "healthy") & (table["split"] == "val")]
    keys = ["source", "subject", "slice"]
    both = pooled.merge(table, on=keys, suffixes=("", "_own"))
    assert len(both) == len(pooled) == len(table)
    for name in ("latent_l2", "trivial_noise"):
        own = (both[f"{name}_own"] - np.quantile(healthy[name], 0.95)) / healthy[name].std()
        np.testing.assert_allclose(both[name], own, atol=1e-9)
    assert (both["trivial_brain_area"] == both["trivial_brain_area_own"]).all()


def test_a_folds_own_scale_and_offset_do_not_matter(tmp_path: Path) -> None:
    table = simulated_scores()
    other = table.assign(latent_l2=10 * table["latent_l2"] + 3)
    # Two models of one cohort: mixed subjects are tested once each, healthy ones are in both.
    mixed = table["role"] == "mixed"
    first = np.array(sorted(set(table.loc[mixed, "subject"])))[::2]
    in_first = table["subject"].isin(first)
    halves = [
        part.assign(split=part["split"].where(~mixed | mine, "val"))
        for part, mine in ((table, in_first), (other, ~in_first))
    ]
    pooled = pooled_scores([fold(h, tmp_path / str(k)) for k, h in enumerate(halves)])
    alone = pooled_scores([fold(table, tmp_path / "alone")])
    keys = ["source", "subject", "slice"]
    both = pooled.merge(alone, on=keys, suffixes=("", "_alone"))
    assert len(both) == len(pooled) == len(table)
    assert both["latent_l2"].to_numpy() == pytest.approx(both["latent_l2_alone"].to_numpy())
