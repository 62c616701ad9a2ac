"""Slices are drawn with residual, map and outline; typical ones are chosen by a rule, mistakes
are those of the thresholds, one a subject.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from twinvae.reporting.gallery import (
    Gallery,
    captions,
    choose_slices,
    figure_gallery,
    worst_captions,
    worst_slices,
)

FLAT: dict[str, Any] = {
    "decision_score": "s",
    "size": "brain_px",
    "scores": {"s": {"slice": {"thresholds": [{"percentile": 90, "threshold": 1.0}]}}},
}
"""Slices of 1 or more are abnormal."""


def table(*rows: tuple[str, float, float]) -> pd.DataFrame:
    """Subject, tumour pixels and score of each slice."""
    scores = pd.DataFrame(rows, columns=["subject", "tumour_px", "s"])
    return scores.assign(
        source="a", role="mixed", split="test", slice=range(len(rows)), position=0.5, brain_px=900.0
    )


def test_false_positives_exceed_most_and_false_negatives_are_largest() -> None:
    scores = table(
        ("p", 0, 1.2), ("p", 0, 3.0), ("q", 0, 2.0), ("r", 0, 0.9),  # tumour-free
        ("p", 300, 0.9), ("p", 200, 0.1), ("q", 100, 0.2), ("r", 900, 5.0), ("t", 400, 0.5),
    )  # fmt: skip
    wrong, missed = worst_slices(scores, FLAT, 50)
    assert wrong.tolist() == [1, 2]
    assert missed.tolist() == [8, 4, 6]
    assert [rows.tolist() for rows in worst_slices(scores, FLAT, 50, count=1)] == [[1], [8]]
    assert worst_captions(scores, wrong, FLAT)[1] == "q\nslice 2\n0 px\n2 (d* 1)"


def test_a_sliver_of_tumour_is_a_mistake_of_neither_kind() -> None:
    scores = table(("p", 40, 9.0), ("q", 1, 9.0), ("r", 50, 0.1), ("t", 0, 2.0), ("u", 51, 0.2))
    wrong, missed = worst_slices(scores, FLAT, 50)
    assert (wrong.tolist(), missed.tolist()) == ([3], [4])


def test_the_largest_tumours_are_those_of_most_mm2() -> None:
    scores = table(("p", 300, 0.9), ("q", 100, 0.2), ("r", 200, 0.5))
    scores = scores.assign(spacing_mm=[0.5, 2.0, 1.0])  # 75, 400 and 200 mm²
    _, missed = worst_slices(scores, FLAT, 50)
    assert missed.tolist() == [1, 2, 0]
    assert worst_captions(scores, missed, FLAT)[0] == "q\nslice 1\n100 px, 400 mm²\n0.2 (d* 1)"
    twice = scores.assign(subject="p")  # one patient, scanned on three grids
    assert choose_slices(twice, "mixed", 50).tolist() == [1]
    healthy = twice.assign(role="healthy", tumour_px=0.0, brain_px=[900.0, 300.0, 500.0])
    assert choose_slices(healthy, "healthy", 50).tolist() == [1]


def test_a_threshold_that_follows_area_decides_what_is_worst() -> None:
    bent = {
        "level": {"size": [100.0, 900.0], "value": [0.0, 2.0]},
        "spread": {"size": [1.0], "value": [1.0]},
    }
    part = {**FLAT["scores"]["s"]["slice"], "shape": bent, "cutoffs": [[1.0]]}
    calibration = {**FLAT, "scores": {"s": {"slice": part}}}
    scores = table(("p", 0, 3.1), ("q", 0, 2.9), ("r", 0, 2.5)).assign(brain_px=[900, 900, 100])
    assert worst_slices(scores, calibration, 50)[0].tolist() == [2, 0]


def test_only_mixed_test_slices_of_known_truth_can_be_mistakes() -> None:
    scores = table(("p", 0, 9.0), ("q", 0, 9.0), ("r", float("nan"), 9.0), ("t", 0, 2.0))
    scores.loc[0, "role"], scores.loc[1, "split"] = "healthy", "val"
    assert worst_slices(scores, FLAT, 50)[0].tolist() == [3]


def test_without_thresholds_there_are_no_mistakes() -> None:
    nothing = {"decision_score": "s", "scores": {}}
    found = worst_slices(table(("p", 0, 9.0)), nothing, 50)
    assert [len(rows) for rows in found] == [0, 0]
    assert worst_captions(table(("p", 0, 9.0)), found[0], FLAT) == []


def test_gallery_draws_slices_residuals_and_outlines(gallery: Gallery) -> None:
    figure = figure_gallery(gallery)
    residual = figure.axes[2 * 3].images[0]
    np.testing.assert_allclose(residual.get_array(), gallery.images[0] - gallery.reconstructions[0])
    low, high = residual.get_clim()
    assert low == -high < 0
    assert [bool(axes.collections) for axes in figure.axes[9:12]] == [True, False, False]


def test_gallery_shows_a_map_instead_of_the_residual(gallery: Gallery) -> None:
    maps = np.arange(3 * 16 * 16, dtype=float).reshape(3, 16, 16)
    figure = figure_gallery(dataclasses.replace(gallery, maps=maps, map_name="features"))
    shown = figure.axes[2 * 3 + 1].images[0]
    np.testing.assert_array_equal(shown.get_array(), maps[1])
    assert shown.get_clim()[0] == 0
    assert figure.axes[2 * 3].get_ylabel() == "map\nfeatures"


def test_slices_are_chosen_by_a_rule_that_sees_no_score(fake: Any) -> None:
    rows = choose_slices(fake.scores, "mixed", 50, count=4)
    chosen = fake.scores.iloc[rows]
    assert len(set(chosen["subject"])) == 4
    assert (chosen["tumour_px"] == 300).all()  # the largest of each simulated tumour
    shuffled = fake.scores.assign(residual_local=0.0)
    assert np.array_equal(rows, choose_slices(shuffled, "mixed", 50, count=4))
    healthy = fake.scores.iloc[choose_slices(fake.scores, "healthy", 50)]
    assert len(healthy) == 8
    assert set(healthy["split"]) == {"test"}
    assert (healthy["brain_px"] == 4000).all()
    assert len(choose_slices(fake.scores, "mixed", 10**6)) == 0
    assert captions(fake.scores, rows[:1], "latent_l2")[0].startswith("s1\nslice 12\nscore ")
