"""The worst mistakes are those of the thresholds, one a subject."""

from __future__ import annotations

from typing import Any

import pandas as pd

from twinvae.reporting.gallery import choose_slices, worst_captions, worst_slices

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
        ("p", 0, 1.2), ("p", 0, 3.0), ("q", 40, 2.0), ("r", 0, 0.9),  # tumour-free
        ("p", 300, 0.9), ("p", 200, 0.1), ("q", 100, 0.2), ("r", 900, 5.0), ("t", 400, 0.5),
    )  # fmt: skip
    wrong, missed = worst_slices(scores, FLAT, 50)
    assert wrong.tolist() == [1, 2]
    assert missed.tolist() == [8, 4, 6]
    assert [rows.tolist() for rows in worst_slices(scores, FLAT, 50, count=1)] == [[1], [8]]
    assert worst_captions(scores, wrong, FLAT)[1] == "q\nslice 2\n40 px\n2 (d* 1)"


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
