"""A small simulated run, evaluated once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate
from twinvae.evaluation import audit, evaluate
from twinvae.reporting.gallery import Gallery


@dataclass(frozen=True)
class FakeRun:
    scores: pd.DataFrame
    calibration: dict
    metrics: pd.DataFrame
    audit: dict


def fake_scores() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for role, people in (("healthy", 24), ("mixed", 12)):
        for number in range(people):
            position = np.linspace(0, 1, 25)
            ill = role == "mixed" and number % 3 > 0
            tumour = np.round(300 * (1 - ((position - 0.5) / 0.2) ** 2).clip(0)) * ill
            columns = {
                "residual_local": tumour / 60,
                "latent_l2": tumour / 300,
                "image_l2": tumour / 200,
                "healthy_mean_norm": 0 * tumour,
                "trivial_asymmetry": tumour / 200,
                "trivial_position": -np.abs(position - 0.5),
            }
            parts.append(
                pd.DataFrame(
                    {
                        "subject": f"s{number}",
                        "source": role,
                        "role": role,
                        "split": "val" if role == "healthy" and number % 2 else "test",
                        "slice": np.arange(25),
                        "position": position,
                        "brain_px": np.round(4000 * np.sin(np.pi * (0.1 + 0.8 * position))),
                        "tumour_px": tumour,
                        "spacing_mm": 2.0,
                        **{k: v + rng.normal(0, 0.7, 25) for k, v in columns.items()},
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def fake() -> FakeRun:
    scores = fake_scores()
    calibration = calibrate(
        scores, DecisionConfig(score="residual_local", percentiles=(99.0, 95.0))
    )
    config = EvaluationConfig(min_tumour_px=(0, 50, 100), resamples=200)
    return FakeRun(
        scores,
        calibration,
        evaluate(scores, calibration, config),
        audit(scores, calibration, config),
    )


@pytest.fixture
def gallery() -> Gallery:
    rng = np.random.default_rng(1)
    masks = np.zeros((3, 16, 16), dtype=bool)
    masks[0, 4:8, 4:8] = True
    return Gallery(rng.random((3, 16, 16)), rng.random((3, 16, 16)), ["a", "b", "c"], masks)
