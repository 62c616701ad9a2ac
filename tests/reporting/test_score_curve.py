"""The curve of a scan's slices, and the lines that belong to its verdict."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scan_material import scan, verdict

from twinvae.reporting.score_curve import gauge, score_curve


def test_the_curve_is_the_scores_from_the_lowest_slice_up() -> None:
    found = score_curve(scan().slices, verdict(True))
    points = [tuple(map(float, p.split(","))) for p in found["points"].split()]
    assert [x for x, _ in points] == pytest.approx(np.linspace(0, 1000, 8), abs=0.1)
    heights = [y for _, y in points]  # the lowest slice has the highest score; 0 is the top
    assert heights == sorted(heights)
    step = heights[1] - heights[0]
    assert found["scan_line"] == pytest.approx(heights[0] + step, abs=0.1)  # 6 beside 7
    path = found["slice_line"].replace("M", "").split(" L")
    assert len(path) == 8
    d_star = [float(point.split(",")[1]) for point in path]
    assert d_star == pytest.approx([heights[0] + 2 * step] * 8, abs=0.2)
    assert len(found["abnormal"]) == 3
    assert (found["first"], found["last"]) == (5, 12)
    assert [text for text, _ in found["across"]] == ["6", "8", "10", "12"]
    text, where = found["up"][-1]
    assert 1000 - 10 * where == pytest.approx(heights[0] + (7 - float(text)) * step, abs=0.2)


def test_no_line_is_drawn_that_does_not_hold() -> None:
    unjudged = scan().slices.assign(abnormal=pd.array([pd.NA] * 8, dtype="boolean"))
    found = score_curve(unjudged, None)
    assert (found["scan_line"], found["slice_line"], found["abnormal"]) == (None, "", [])
    run = score_curve(scan().slices, verdict(True, statistic="longest_run", threshold=3.0))
    assert run["scan_line"] is None
    nowhere = scan().slices.assign(threshold=[5.0, math.inf] * 4)
    assert "L" not in score_curve(nowhere, verdict(True))["slice_line"]
    single = score_curve(scan(count=1).slices, verdict(True))
    assert single["points"].startswith("0.0,")


def test_the_bar_shows_which_side_of_the_threshold_the_scan_is_on() -> None:
    for found in (verdict(True), verdict(False), verdict(False, value=-1.0, threshold=0.5)):
        bar = gauge(found)
        assert (bar["value"] >= bar["threshold"]) == found.abnormal
        assert 0 <= min(bar.values()) <= max(bar.values()) <= 100
