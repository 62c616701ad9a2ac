"""Where one answer ends and the next begins: values at the limit itself; sizes of blocks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from simulated import simulated_scores
from sklearn.metrics import average_precision_score, roc_auc_score
from test_pixel_metrics import cohort

from twinvae.config import EvaluationConfig
from twinvae.evaluation import MaskedSlices, auroc, similar, sweep
from twinvae.evaluation import pixel_metrics as pixels
from twinvae.evaluation.resampling import (
    Resampled,
    fewer_subjects,
    interval,
    multiplicities,
    null,
    summary,
    tail_share,
)
from twinvae.evaluation.subsets import by_size, by_subject, by_third, known_mixed, sample_of
from twinvae.evaluation.what_it_sees import BRAIN_SIZE, NOTHING, SCANNER, TUMOURS, what_it_sees

CONFIG = EvaluationConfig(min_tumour_px=(50,), resamples=30)


def test_thirds_begin_at_a_third_and_two_and_end_at_one() -> None:
    position = [0.0, 0.33, 1 / 3, 0.5, 0.66, 2 / 3, 0.99, 1.0]
    thirds = by_third(pd.DataFrame({"position": position}))
    assert {name: np.flatnonzero(chosen).tolist() for name, chosen in thirds.items()} == {
        "first": [0, 1], "middle": [2, 3, 4], "last": [5, 6, 7],
    }  # fmt: skip


def test_a_stratum_holds_its_upper_end_and_every_tumour_free_slice() -> None:
    table = pd.DataFrame({"tumour_px": [0.0, 50.0, 51.0, 100.0, 101.0, 400.0, 401.0, np.nan]})
    config = EvaluationConfig(size_strata_px=(50, 100, 400), size_strata_mm2=(100,))
    found = by_size(table, 50, config)
    assert {name: np.flatnonzero(chosen).tolist() for name, chosen in found.items()} == {
        "size_px:50-100": [0, 1, 2, 3], "size_px:100-400": [0, 1, 4, 5], "size_px:400-": [0, 1, 6],
    }  # fmt: skip
    # In mm²: from 50 pixels of the finest grid, a quarter of a mm² each.
    found = by_size(table.assign(spacing_mm=[0.5] * 4 + [1.0] * 4), 50, config)
    assert {name: np.flatnonzero(chosen).tolist() for name, chosen in found.items()} == {
        "size_mm2:12.5-100": [0, 1, 2, 3], "size_mm2:100-": [0, 1, 4, 5, 6],
    }  # fmt: skip


def test_a_subject_is_its_highest_slice() -> None:
    table = pd.DataFrame(
        {
            "source": "s", "subject": ["b", "a", "b", "a"], "role": "mixed", "split": "test",
            "slice": [0, 0, 1, 1], "position": 0.5, "brain_px": 9.0,
            "tumour_px": [50.0, 51.0, 7.0, 0.0], "one": [-3.0, -9.0, -5.0, -8.0],
        }
    )  # fmt: skip
    people = by_subject(sample_of(table))
    assert (people.subject.tolist(), people.n_subjects) == ([0, 1], 2)
    order = np.argsort(people.tumour_px)
    assert people.tumour_px[order].tolist() == [50.0, 51.0]
    assert people.scores["one"][order].tolist() == [-3.0, -8.0]
    assert people.positive(50)[order].tolist() == [False, True]


@pytest.mark.parametrize("people", [2, 3, 17])
def test_share_beyond_an_interval_is_that_of_students_t(people: int) -> None:
    reach = t.ppf(0.975, people - 1) * np.sqrt(people / (people - 1))
    assert tail_share(people) == pytest.approx(norm.sf(reach))
    values = np.random.default_rng(0).permutation(np.arange(2001.0))
    share = norm.sf(reach)
    assert interval(values, people) == pytest.approx((2000 * share, 2000 * (1 - share)))


def test_an_interval_needs_nine_tenths_of_the_resamples_and_two_subjects() -> None:
    values = np.concatenate([np.arange(90.0), np.full(10, np.nan)])
    assert np.isfinite(interval(values, 2)).all()
    values[0] = np.nan
    assert np.isnan(interval(values, 2)).all()
    found = summary(Resampled(0.5, np.arange(90.0)), 1)
    assert found == {"value": 0.5, "ci_low": None, "ci_high": None}
    assert summary(Resampled(float("nan"), np.arange(90.0)), 9)["ci_low"] is None
    assert (null(0.0), null(float("nan"))) == (0.0, None)


def test_fewer_subjects_are_those_of_the_rarer_class() -> None:
    subject = np.array([0, 0, 1, 2, 2])
    positive = np.array([True, False, False, False, False])
    assert fewer_subjects(positive, subject) == fewer_subjects(~positive, subject) == 1
    assert fewer_subjects(np.array([True, False, True, True, False]), subject) == 2
    assert fewer_subjects(np.zeros(5, bool), subject) == 0


@pytest.mark.parametrize(
    ("raw", "adjusted", "gap", "expected"),
    [
        (0.75, 0.625, 0.5, TUMOURS),  # just half of the lead is left
        (0.75, 0.624, 0.5, BRAIN_SIZE),
        (0.75, 0.75, 0.75, TUMOURS),  # as much scanner as tumours
        (0.75, 0.75, 0.751, SCANNER),
        (0.5, 0.5, 0.611, SCANNER),
        (0.5, 0.5, 0.399, SCANNER),
        (0.5, 0.5, 0.401, NOTHING),
    ],
)
def test_what_a_score_sees_at_the_limits(
    raw: float, adjusted: float, gap: float, expected: str
) -> None:
    def sure(value: float) -> dict[str, float | None]:
        return {"value": value, "ci_low": value - 1e-6, "ci_high": value + 1e-6}

    unknown = {"value": None, "ci_low": None, "ci_high": None}
    gaps = {"raw": unknown, "matched": unknown, "adjusted": sure(gap)}
    assert what_it_sees({"raw": sure(raw), "adjusted": sure(adjusted)}, gaps)["sees"] == expected


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0.5, 0.9, NOTHING), (0.2, 0.5, NOTHING), (0.501, 0.9, BRAIN_SIZE), (0.2, 0.499, BRAIN_SIZE),
])  # fmt: skip
def test_an_interval_that_ends_at_chance_holds_it(low: float, high: float, expected: str) -> None:
    raw = {"value": (low + high) / 2, "ci_low": low, "ci_high": high}
    none = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    gaps = dict.fromkeys(("raw", "matched", "adjusted"), none)
    assert what_it_sees({"raw": raw, "adjusted": none}, gaps)["sees"] == expected


def few_pixels() -> tuple[np.ndarray, MaskedSlices]:
    """Twelve pixels of two subjects, all inside the brain, three of the tumour; two are equal."""
    values = np.array([[[0.1, 0.7, 0.3], [0.4, 0.5, 0.6]], [[0.7, 0.8, 0.9], [1.0, 1.1, 1.2]]])
    tumour = np.array([[[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 1]]], np.uint8)
    index = pd.DataFrame({"source": "s", "subject": ["a", "b"]})
    slices = MaskedSlices(np.ones_like(tumour), tumour, np.arange(2), index)
    return values.astype(np.float32), slices


def test_metrics_of_few_pixels_are_exact() -> None:
    maps, slices = few_pixels()
    result = pixels.evaluate_pixels({"m": maps}, slices, CONFIG).set_index("metric")["value"]
    truth, score = slices.tumour.ravel(), maps.ravel()
    assert result["auroc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    expected = average_precision_score(truth, score)
    assert result["average_precision"] == pytest.approx(expected, abs=1e-12)
    assert result["dice_best"] == pytest.approx(
        2 * 3 / (7 + 3)
    )  # from 0.7 on: seven, three of them tumour
    assert result["prevalence"] == 0.25


def test_one_tumour_pixel_and_one_other_are_enough() -> None:
    maps, slices = few_pixels()
    for truth, expected in ((maps > 1.15, 1.0), (maps > 0.15, 1.0), (maps > 1.3, np.nan)):
        given = MaskedSlices(slices.brain, truth.astype(np.uint8), slices.rows, slices.index)
        result = pixels.evaluate_pixels({"m": maps}, given, CONFIG).set_index("metric")["value"]
        for name in ("auroc", "average_precision", "dice_best"):
            np.testing.assert_equal(result[name], expected)


def test_pixel_rows_are_of_all_tumours_and_of_seed_zero() -> None:
    maps, slices = cohort()
    table = pixels.evaluate_pixels({"m": maps}, slices, CONFIG)
    assert (table["min_tumour_px"] == 0).all()
    pd.testing.assert_frame_equal(
        pixels.evaluate_pixels({"m": maps}, slices, CONFIG, seed=0), table
    )
    other = pixels.evaluate_pixels({"m": maps}, slices, CONFIG, seed=1)
    assert (other["ci_low"] != table["ci_low"]).any()


def test_bins_are_a_thousandth_of_the_pixels_and_single_pixels_among_the_highest() -> None:
    values = np.random.default_rng(0).permutation(np.arange(10201.0)).reshape(1, 101, 101)
    brain = np.ones((1, 101, 101), np.uint8)
    slices = MaskedSlices(brain, brain, np.zeros(1, np.int64), pd.DataFrame())
    edges = pixels._edges(values.astype(np.float32), slices, np.zeros(1, np.int64))
    assert (edges[0], edges[-1]) == (0.0, 10200.0)
    assert np.diff(edges).max() == pytest.approx(10.2, abs=1e-3)
    assert (np.diff(np.searchsorted(edges, np.arange(10150.0, 10201))) > 0).all()
    # As many again: the k-th leaves the share n^(−k/1000) above it.
    towards = 10200 * (1 - 10201.0 ** -(np.arange(1001) / 1000))
    assert np.abs(edges[:, None] - towards).min(axis=0).max() < 0.01


@pytest.mark.parametrize(("name", "value"), [("_CHUNK", 1), ("_CHUNK", 5), ("_RESAMPLES", 7)])
def test_pixels_looked_at_together_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    maps, slices = cohort()
    expected = pixels.evaluate_pixels({"m": maps}, slices, CONFIG)
    monkeypatch.setattr(pixels, name, value)
    pd.testing.assert_frame_equal(pixels.evaluate_pixels({"m": maps}, slices, CONFIG), expected)


def test_bins_come_from_pixels_spread_over_the_brain_of_every_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.arange(200, dtype=np.float32).reshape(2, 10, 10)
    brain = np.ones((4, 10, 10), np.uint8)
    brain[3, 5:] = 0
    slices = MaskedSlices(brain, brain, np.array([1, 3]), pd.DataFrame())
    taken = []
    monkeypatch.setattr(pixels, "_SAMPLE", 40)
    monkeypatch.setattr(np, "quantile", lambda sample, _: taken.append(sample) or np.ones(1))
    pixels._edges(values, slices, np.array([0, 1]))
    # Twenty of each: every fifth of a hundred, every second of fifty.
    assert taken[0].tolist() == [*range(0, 100, 5), *range(100, 150, 2)]


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (similar, "_BLOCK", 40),
        (similar, "_ROWS", 3),
        (auroc, "_ROWS", 7),
        (sweep, "_COLUMNS", 7),
        (sweep, "_ELEMENTS", 900),
    ],
)
def test_what_is_computed_together_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, value: int
) -> None:
    sample = sample_of(known_mixed(simulated_scores(), "test"))
    positive, score = sample.positive(50), sample.scores["latent_l2"]
    draws = multiplicities(sample.n_subjects, 30, 0)
    window = similar.Matching(0.3, 0.1)

    def found() -> list[np.ndarray]:
        places = (sample.n_subjects, sample.log_area, sample.position)
        wins = auroc.match_pairs(positive, sample.subject, *places, window).wins(score)
        swept = sweep.swept(score, positive, sample.subject, draws)
        matched = auroc.between(wins.wins, draws) / auroc.between(wins.pairs, draws)
        return [matched, swept.wins, swept.precision, swept.area, *swept.found]

    expected = found()
    monkeypatch.setattr(module, name, value)
    for one, other in zip(found(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
