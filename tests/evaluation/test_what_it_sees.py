"""The plain-language verdict: each of its five answers, from numbers and from simulated scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from simulated import simulated_scores

from twinvae.config import EvaluationConfig
from twinvae.evaluation import audit
from twinvae.evaluation.what_it_sees import (
    BRAIN_SIZE,
    NOTHING,
    SCANNER,
    TUMOURS,
    UNKNOWN,
    what_it_sees,
)

CONFIG = EvaluationConfig(min_tumour_px=(50,), resamples=400)
NO_CALIBRATION = {"decision_score": "latent_l2", "scores": {}}


def about(value: float | None, half: float | None = 0.04) -> dict[str, float | None]:
    if value is None or half is None:
        return {"value": value, "ci_low": None, "ci_high": None}
    return {"value": value, "ci_low": value - half, "ci_high": value + half}


def sees(plain: object, alike: object, gap: object, **others: object) -> str:
    kinds = {"raw": about(0.5), "matched": about(None), "adjusted": gap, **others}
    return what_it_sees({"raw": plain, "adjusted": alike}, kinds)["sees"]


@pytest.mark.parametrize(
    ("raw", "adjusted", "gap", "expected"),
    [
        (0.90, 0.80, 0.55, TUMOURS),
        (0.90, 0.71, 0.50, TUMOURS),  # half of the raw lead is left
        (0.90, 0.69, 0.50, BRAIN_SIZE),
        (0.90, 0.51, 0.50, BRAIN_SIZE),
        (0.10, 0.50, 0.50, BRAIN_SIZE),  # brain size, the wrong way round
        (0.52, 0.60, 0.50, TUMOURS),
        (0.52, 0.52, 0.52, NOTHING),
        (0.52, 0.40, 0.52, NOTHING),  # surely worse than chance is no detection
        (0.52, 0.52, 0.80, SCANNER),
        (0.52, 0.52, 0.20, SCANNER),
        (0.90, 0.80, 0.85, SCANNER),  # more scanner than tumours
        (0.90, 0.80, 0.75, TUMOURS),
        (0.52, 0.52, 0.59, NOTHING),  # a small gap does not count
    ],
)
def test_rule(raw: float, adjusted: float, gap: float, expected: str) -> None:
    assert sees(about(raw), about(adjusted), about(gap)) == expected


def test_unsure_values_count_as_none() -> None:
    assert sees(about(0.9, 0.45), about(0.8, 0.35), about(0.9, 0.45)) == NOTHING
    assert sees(about(0.9), about(0.8), about(None)) == TUMOURS
    assert sees(about(0.9), about(0.8, None), about(0.5)) == UNKNOWN
    assert sees(about(None), about(None), about(0.9)) == UNKNOWN


def test_only_gaps_between_similar_slices_count() -> None:
    assert sees(about(0.9), about(0.8), about(0.5), raw=about(0.95)) == TUMOURS
    assert sees(about(0.9), about(0.8), about(None), raw=about(0.95)) == TUMOURS
    assert sees(about(0.9), about(0.8), about(None), matched=about(0.95)) == SCANNER
    assert sees(about(0.9), about(0.8), about(0.5), matched=about(0.95)) == TUMOURS
    alone = {"raw": about(0.95), "matched": about(1.0, None), "adjusted": about(1.0, None)}
    found = what_it_sees({"raw": about(0.9), "adjusted": about(0.8)}, alone)
    assert found["because"].endswith("similar healthy slices not known")


@pytest.fixture(scope="module")
def found() -> dict:
    table = simulated_scores(healthy=40, mixed=40, slices=60, seed=3)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(table))
    mixed = (table["role"] == "mixed").to_numpy()
    scores = pd.DataFrame(
        {
            "tumours": table["tumour_px"] / 100 + noise,
            "brain": table["brain_px"] / 400 + noise,
            "scanner": 2 * mixed + noise,
            "nothing": rng.permutation(noise),
        }
    )
    keys = table.drop(columns=["latent_l2", "trivial_noise"])
    return audit(pd.concat([keys, scores], axis=1), NO_CALIBRATION, CONFIG)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ("tumours", TUMOURS),
        ("brain", BRAIN_SIZE),
        ("trivial_brain_area", BRAIN_SIZE),
        ("scanner", SCANNER),
        ("nothing", NOTHING),
    ],
)
def test_simulated_scores_are_seen_for_what_they_are(
    found: dict, score: str, expected: str
) -> None:
    assert found["scores"][score]["sees"] == expected
    assert "adjusted AUROC" in found["scores"][score]["because"]


def test_knowing_the_slice_goes_at_least_as_far_as_brain_area(found: dict) -> None:
    area = found["scores"]["trivial_brain_area"]["auroc"]["raw"]["value"]
    assert found["which_slice"]["folds"] == 5
    assert found["which_slice"]["value"] >= area - 0.02
    assert found["which_slice"]["ci_low"] > 0.75
