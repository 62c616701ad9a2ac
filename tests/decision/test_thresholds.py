"""Shapes of thresholds by hand: curves, bins and how they are named."""

from __future__ import annotations

import numpy as np
import pytest

from twinvae.decision.rules import equal_bins
from twinvae.decision.thresholds import Curve, Places, Shape

POINT = Curve(np.array([7.0]), np.array([3.0]))
LINE = Curve(np.array([10.0, 20.0]), np.array([1.0, 5.0]))
CROSSED = Shape(size_edges=(10.0, 20.0), position_edges=(0.25, 0.5, 0.75))


@pytest.mark.parametrize(
    ("shape", "by_area"),
    [
        (Shape(), False),
        (Shape(position_edges=(0.5,)), False),
        (Shape(POINT, POINT), False),  # the same for every area
        (Shape(level=LINE), True),
        (Shape(POINT, LINE), True),
        (Shape(spread=LINE), True),
        (Shape(size_edges=(10.0,)), True),
    ],
)
def test_whether_the_threshold_depends_on_area(shape: Shape, by_area: bool) -> None:
    assert shape.by_area is by_area


def test_a_bin_holds_its_lower_edge_and_its_number_is_area_by_position() -> None:
    size, position = np.array([9.9, 10.0, 19.9, 20.0]), np.array([0.2, 0.25, 0.5, 0.75])
    rows, columns = np.repeat(size, 4), np.tile(position, 4)
    found = CROSSED.bin_of(Places(rows, columns)).reshape(4, 4)
    assert found.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert CROSSED.bins == 12
    assert Shape(size_edges=(1.0,)).bins == Shape(position_edges=(1.0,)).bins == 2
    assert Shape().bins == 1
    assert Shape().bin_of(Places(size, position)).tolist() == [0, 0, 0, 0]


def test_bins_are_named_by_their_edges() -> None:
    said = [CROSSED.describe_bin(number) for number in (0, 5, 11)]
    assert said == [
        " in bin 1 of 12 (brain area below 10, position below 0.25)",
        " in bin 6 of 12 (brain area from 10 below 20, position from 0.25 below 0.5)",
        " in bin 12 of 12 (brain area from 20, position from 0.75)",
    ]
    two = Shape(size_edges=(1234.56,))
    assert two.describe_bin(0) == " in bin 1 of 2 (brain area below 1235)"
    assert two.describe_bin(1) == " in bin 2 of 2 (brain area from 1235)"
    assert Shape().describe_bin(0) == ""


def test_scores_are_standardised_and_moved_by_hand() -> None:
    places = Places(np.array([5.0, 12.5, 40.0]), np.zeros(3))
    shape = Shape(LINE, Curve(np.array([10.0, 20.0]), np.array([2.0, 4.0])))
    score = np.array([9.0, 7.0, 13.0])
    expected = np.array([(9 - 1) / 2, (7 - 2) / 2.5, (13 - 5) / 4])
    np.testing.assert_allclose(shape.standardised(score, places), expected)
    moved = shape.moved(-7.0, 3.0)
    np.testing.assert_allclose(moved.standardised(3 * score - 7, places), expected)
    level, spread = Shape().scale_at(places)
    assert (level.tolist(), spread.tolist()) == ([0.0] * 3, [1.0] * 3)
    level, spread = (
        Shape(size_edges=(1.0,), position_edges=(0.5,)).moved(-7.0, 3.0).scale_at(places)
    )
    assert (level.tolist(), spread.tolist()) == ([-7.0] * 3, [3.0] * 3)
    assert CROSSED.moved(1.0, 2.0).bins == 12


def test_a_shape_reads_back_and_leaves_out_what_does_not_apply() -> None:
    assert Shape().to_json() == {}
    for shape in (Shape(), CROSSED, Shape(LINE), Shape(POINT, LINE, (1.0,), (0.5,))):
        again = Shape.from_json(shape.to_json())
        assert again.to_json() == shape.to_json()
        assert (again.level is None, again.spread is None) == (
            shape.level is None,
            shape.spread is None,
        )


def test_bins_are_of_equally_many_values() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1.0, 102.0))  # 1 to 101
    assert equal_bins(values, 1) == ()
    assert equal_bins(values, 2) == (51.0,)
    assert equal_bins(values, 4) == (26.0, 51.0, 76.0)
    assert equal_bins(values, 5) == pytest.approx((21.0, 41.0, 61.0, 81.0))
    assert equal_bins(np.array([3.0, 3.0, 3.0, 8.0]), 4) == (3.0, 4.25)  # equal edges are one
