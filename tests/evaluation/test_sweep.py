"""Curves of all resamples in one pass, against scikit-learn on the slices repeated."""

from __future__ import annotations

import numpy as np
import pytest
from repeated import repeated
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from twinvae.evaluation import sweep
from twinvae.evaluation.average_precision import resampled_average_precision
from twinvae.evaluation.low_fpr import low_fpr_metrics
from twinvae.evaluation.resampling import multiplicities
from twinvae.evaluation.sweep import swept


def sensitivity(allowed: float, score: np.ndarray, positive: np.ndarray) -> float:
    wrong, found, _ = roc_curve(positive, score, drop_intermediate=False)
    return float(found[wrong <= allowed + 1e-9].max())


METRICS = {
    "auroc": lambda s, p: roc_auc_score(p, s),
    "average_precision": lambda s, p: average_precision_score(p, s),
    "partial_auroc": lambda s, p: roc_auc_score(p, s, max_fpr=0.1),
    "sensitivity_at_specificity_95": lambda s, p: sensitivity(0.05, s, p),
    "sensitivity_at_specificity_99": lambda s, p: sensitivity(0.01, s, p),
}


def draw(seed: int, decimals: int, people: int, n: int = 260) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    score = np.round(rng.normal(size=n) + positive, decimals)
    return score, positive, rng.integers(0, people, n)


@pytest.mark.parametrize(("kind", "error"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("elements", [40, 128_000])
@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("people", [3, 90])
def test_agrees_with_the_slices_repeated(
    people: int,
    decimals: int,
    elements: int,
    kind: type,
    error: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "_ELEMENTS", elements)
    monkeypatch.setattr(sweep, "_COLUMNS", 9)
    monkeypatch.setattr(sweep, "_FEW", 4)
    sample = draw(people, decimals, people)
    draws = multiplicities(people, 20, seed=0)
    found = swept(*sample, draws.astype(kind))
    names = {"auroc": found.auroc, "average_precision": resampled_average_precision(found)}
    for name, values in {**names, **low_fpr_metrics(found)}.items():
        expected = repeated(METRICS[name], *sample, draws)
        limit = 0 if name == "auroc" else error
        np.testing.assert_allclose(values, expected, rtol=0, atol=limit or 1e-12, err_msg=name)


def test_wins_are_whole_halves_whatever_the_precision() -> None:
    """Also where float32 could not add them up: a subject drawn thousands of times."""
    score, positive, subject = draw(0, 1, people=2, n=900)
    draws = np.array([[4001.0, 2.0], [3.0, 7001.0], [5000.0, 5001.0]])
    weight = draws[:, subject]
    below = (score[:, None] > score) + (score[:, None] == score) / 2
    expected = np.einsum("ri,ij,rj->r", weight * positive, below, weight * ~positive)
    for kind in (np.float64, np.float32):
        found = swept(score, positive, subject, draws.astype(kind))
        np.testing.assert_array_equal(found.wins, expected)


def test_without_curves_wins_stay_the_same() -> None:
    sample, draws = draw(1, 2, people=30), multiplicities(30, 50, seed=1)
    whole, part = (swept(*sample, draws, curves=curves) for curves in (True, False))
    for name in ("positives", "negatives", "wins"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name))


def test_nothing_to_sweep_and_no_resamples() -> None:
    nothing = swept(np.empty(0), np.empty(0, bool), np.empty(0, int), np.ones((2, 1)))
    assert np.isnan(nothing.auroc).all()
    assert swept(*draw(2, 1, people=3), np.empty((0, 3))).auroc.shape == (0,)
