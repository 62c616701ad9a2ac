"""ROC curves enclose their AUROCs, bands are those of an explicit bootstrap, dots are verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate, called
from twinvae.evaluation.resampling import interval, multiplicities
from twinvae.evaluation.subsets import known_mixed, subject_codes
from twinvae.reporting.roc_curves import GRID, RocCurves, figure_roc, roc_points
from twinvae.reporting.style import picture

NAMES = {"raw": ["residual_local", "trivial_position"], "adjusted": ["residual_local"]}


def curves(fake: Any, resamples: int = 60) -> RocCurves:
    return RocCurves(
        known_mixed(fake.scores, "test"), 50, EvaluationConfig(resamples=resamples), seed=3
    )


def area(wrong: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    return float((np.diff(wrong) * (found[1:] + found[:-1]) / 2).sum())


def test_a_raw_curve_encloses_the_auroc() -> None:
    rng = np.random.default_rng(0)
    score, positive = np.round(rng.normal(size=300), 1), rng.random(300) < 0.4
    assert area(*roc_points(score, positive)) == pytest.approx(
        roc_auc_score(positive, score), abs=1e-12
    )


@pytest.mark.parametrize("name", ["residual_local", "latent_l2", "trivial_position"])
def test_curves_enclose_the_metrics(fake: Any, name: str) -> None:
    found = fake.audit["scores"][name]["auroc"]
    raw, adjusted = curves(fake).raw(name), curves(fake).adjusted(name)
    assert area(raw.wrong, raw.found) == pytest.approx(found["raw"]["value"], abs=1e-12)
    assert adjusted is not None
    assert area(adjusted.wrong, adjusted.found) == pytest.approx(
        found["adjusted"]["value"], abs=1e-5
    )


def test_the_raw_band_is_that_of_an_explicit_bootstrap(fake: Any) -> None:
    rows = known_mixed(fake.scores, "test")
    score = rows["image_l2"].to_numpy()
    positive = (rows["tumour_px"] > 50).to_numpy()
    subject, people = subject_codes(rows)
    found = []
    for drawn in multiplicities(people, 60, 3):
        again = np.repeat(np.arange(len(rows)), drawn[subject].astype(int))
        found.append(np.interp(GRID, *roc_points(score[again], positive[again])))
    with_tumour = len(np.unique(subject[positive]))
    ends = np.array([interval(values, with_tumour) for values in np.array(found).T])
    curve = curves(fake).raw("image_l2")
    np.testing.assert_allclose(np.stack([curve.low, curve.high], axis=1), ends, atol=1e-9)


def test_the_adjusted_band_holds_the_curve(fake: Any) -> None:
    curve = curves(fake, 200).adjusted("latent_l2")
    assert curve is not None
    last = np.searchsorted(curve.wrong, GRID + 1e-6, side="right") - 1
    inside = (curve.low <= curve.found[last]) & (curve.found[last] <= curve.high)
    assert inside.mean() > 0.95
    assert 0.02 < np.mean(curve.high - curve.low) < 0.6


def test_without_resamples_there_is_no_band(fake: Any) -> None:
    for curve in (curves(fake, 0).raw("latent_l2"), curves(fake, 0).adjusted("latent_l2")):
        assert curve is not None
        assert np.isnan(curve.low).all()


def test_incomparable_slices_have_no_adjusted_curve(fake: Any) -> None:
    rows = known_mixed(fake.scores, "test")
    tumour = rows["tumour_px"] > 50
    apart = rows.assign(brain_px=rows["brain_px"].where(tumour, rows["brain_px"] * 9))
    assert RocCurves(apart, 50, EvaluationConfig(), 0).adjusted("latent_l2") is None


def test_the_figure_quotes_aurocs_and_draws_verdicts(fake: Any) -> None:
    config = DecisionConfig(score="residual_local", rule="size_binned", bins=2, percentiles=(95.0,))
    calibration = calibrate(fake.scores, config)
    options = EvaluationConfig(resamples=50)
    figure = figure_roc(fake.scores, NAMES, calibration, fake.audit, options)
    raw, adjusted = figure.axes
    found = fake.audit["scores"]["residual_local"]["auroc"]
    for axes, kind in ((raw, "raw"), (adjusted, "adjusted")):
        text = axes.get_legend().get_texts()[0].get_text()
        assert text.startswith(f"Difference from healthy version: {found[kind]['value']:.2f} (")
    rows = known_mixed(fake.scores, "test")
    abnormal = called(calibration, rows, "residual_local")[0][1]
    tumour = (rows["tumour_px"] > 50).to_numpy()
    dots = [line for line in raw.lines if line.get_marker() == "o"]
    assert dots[0].get_xydata().tolist() == [[abnormal[~tumour].mean(), abnormal[tumour].mean()]]
    assert len(dots) == 2
    assert not [line for line in adjusted.lines if line.get_marker() == "o"]


def test_the_figure_says_so_without_two_classes(fake: Any) -> None:
    unknown = fake.scores.assign(tumour_px=np.nan)
    figure = figure_roc(unknown, NAMES, fake.calibration, fake.audit, EvaluationConfig())
    assert all("needs tumour" in axes.texts[0].get_text() for axes in figure.axes)


def test_a_legend_of_long_names_stays_in_the_figure(fake: Any) -> None:
    name, rival = "residual_mirror_zscore_negative_local_context", "trivial_asymmetry"
    scores = fake.scores.rename(columns={"residual_local": name})
    audit = {**fake.audit, "scores": {**fake.audit["scores"]}}
    audit["scores"][name] = audit["scores"]["residual_local"]
    names = {"raw": [name, rival, "latent_l2"], "adjusted": [name]}
    options = EvaluationConfig(resamples=50)
    figure = figure_roc(scores, names, {"scores": {}}, audit, options)
    picture(figure)
    raw, adjusted = (axes.get_legend().get_window_extent() for axes in figure.axes)
    assert raw.x1 < adjusted.x0
    assert min(raw.y0, adjusted.y0) >= 0
