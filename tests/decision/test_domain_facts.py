"""The facts of a scan, and their distance from those of healthy scans, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from twinvae.decision.domain import RECIPE_STATISTICS, distances, domain_of, outside, scan_facts

FACTS = {"slice_mm": 1.0, "brain_ml": 1400.0, "intensity_p50": 0.45, "white_over_grey": -0.4}


def test_distance_from_the_healthy_median_by_hand() -> None:
    facts = [FACTS | {"brain_ml": v} for v in (1000.0, 1200.0, 1400.0, 1600.0, 1800.0)]
    domain = domain_of(facts, ["a", "b", "c", "d", "e"])
    assert domain["leave_one_out_rate"] == 0.0
    spread = 1.4826 * np.median(np.abs(np.log(np.array([1000, 1200, 1400, 1600, 1800]) / 1400)))
    assert domain["statistics"]["brain_ml"]["spread"] == pytest.approx(spread)
    assert outside(domain, FACTS | {"brain_ml": 1900.0}) == ()
    (one,) = outside(domain, FACTS | {"brain_ml": 300.0})
    assert one.robust_z == pytest.approx(np.log(300 / 1400) / spread)
    assert distances(domain, FACTS | {"brain_ml": 300.0})["brain_ml"] == one.robust_z
    assert str(one) == (
        f"brain_ml is 300; healthy scans have 1000 to 1800 (z {one.robust_z:+.1f}, limit 6, "
        "0.214 times their median)"
    )
    both = outside(domain, FACTS | {"slice_mm": 4.0, "intensity_p50": 0.7})
    assert [(o.statistic, o.factor) for o in both] == [("slice_mm", 4.0), ("intensity_p50", None)]


@pytest.mark.parametrize(("inside", "out"), [(2.0, 2.1), (0.25, 0.2)])
def test_slices_twice_as_thick_or_a_quarter_as_thick_are_inside(inside: float, out: float) -> None:
    domain = domain_of([FACTS] * 3, ["a", "b", "c"])
    assert outside(domain, FACTS | {"slice_mm": inside}) == ()
    (one,) = outside(domain, FACTS | {"slice_mm": out})
    assert one.statistic == "slice_mm"


def test_the_order_of_tissues_is_judged_by_its_sign_not_by_the_healthy_spread() -> None:
    """However little healthy scans differ, weak order is no reason; the opposite one is."""
    facts = [FACTS | {"white_over_grey": v} for v in (-0.41, -0.4, -0.39)]
    domain = domain_of(facts, ["a", "b", "c"])
    for inside in (-0.9, -0.1, 0.0, 0.11):
        assert outside(domain, FACTS | {"white_over_grey": inside}) == ()
    (one,) = outside(domain, FACTS | {"white_over_grey": 0.13})
    assert one.statistic == "white_over_grey"
    none = domain_of([FACTS | {"white_over_grey": 0.0}] * 3, ["a", "b", "c"])
    assert outside(none, FACTS | {"white_over_grey": 0.25}) == ()  # no order to contradict


def test_healthy_scans_are_rarely_out_of_the_domain_of_the_others() -> None:
    rng = np.random.default_rng(0)
    names = [name for name in FACTS if name != "white_over_grey"]
    facts = [{n: FACTS[n] * np.exp(0.1 * rng.standard_t(5)) for n in names} for _ in range(200)]
    rate = domain_of(facts, [str(i) for i in range(200)])["leave_one_out_rate"]
    least = {"slice_mm": np.log(2.05) / 6, "brain_ml": 0.1, "intensity_p50": 0.03}
    plain = 0
    for i, one in enumerate(facts):
        others = pd.DataFrame(facts[:i] + facts[i + 1 :])
        odd = False
        for name in names:
            scale = np.asarray if name == "intensity_p50" else np.log
            level, mine = scale(others[name]), scale(one[name])
            middle = np.median(level)
            spread = max(1.4826 * np.median(np.abs(level - middle)), least[name])
            beyond = mine < level.min() or mine > level.max()
            odd |= bool(abs(mine - middle) / spread > 6 and beyond)
        plain += odd
    assert rate == plain / 200
    assert rate < 0.03


def test_facts_of_a_scan_by_hand() -> None:
    """Each slice's brain is asked alone; the quantile over slices depends on the percentile."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 65535, (5, 8, 8)).astype(np.uint16)
    brain = (rng.random((5, 8, 8)) < 0.6).astype(np.uint8)
    brain[4] = 0  # a slice without brain says nothing
    statistics = {name: 0.1 * k for k, name in enumerate(RECIPE_STATISTICS)}
    statistics |= {"spacing_x_mm": 0.5, "spacing_y_mm": 2.0, "spacing_z_mm": 3.0, "pixel_mm": 0.9}
    found = scan_facts(images, brain, statistics)
    shares = {10: 0.75, 25: 0.75, 50: 0.5, 75: 0.25, 90: 0.25}
    for p, share in shares.items():
        each = [np.percentile(images[k][brain[k] == 1], p) / 65535 for k in range(4)]
        assert found[f"intensity_p{p}"] == pytest.approx(np.quantile(each, share))
    assert (found["slice_mm"], found["in_plane_mm"]) == (3.0, 1.0)
    assert found["brain_ml"] == statistics["brain_ml"]
    assert found["smoothness"] == statistics["smoothness"]
    coarse = scan_facts(images, brain, statistics | {"pixel_mm": 1.5})
    assert coarse["in_plane_mm"] == 1.5
    none = scan_facts(images, 0 * brain, statistics)
    assert {none[f"intensity_p{p}"] for p in shares} == {0.0}


@pytest.mark.parametrize(
    ("name", "healthy", "inside", "out"),
    [
        ("in_plane_mm", 1.0, (0.25, 2.0), (0.2, 2.1)),
        ("brain_ml", 1000.0, (560.0, 1800.0), (540.0, 1850.0)),
        ("shape_correlation", 0.8, (0.67, 0.93), (0.66, 0.94)),
        ("shape_turned", 0.3, (0.13, 0.47), (0.11, 0.49)),
        ("fluid_over_grey", -0.5, (-1.04, 0.04), (-1.06, 0.06)),
        ("smoothness", 0.5, (0.03, 0.97), (0.01, 0.99)),
        ("intensity_p10", 0.5, (0.33, 0.67), (0.31, 0.69)),
        ("intensity_p90", 0.5, (0.33, 0.67), (0.31, 0.69)),
    ],
)
def test_where_healthy_scans_do_not_differ_each_statistic_still_has_room(
    name: str, healthy: float, inside: tuple[float, ...], out: tuple[float, ...]
) -> None:
    domain = domain_of([{name: healthy}] * 3, ["a", "b", "c"])
    assert all(outside(domain, {name: value}) == () for value in inside)
    assert all(len(outside(domain, {name: value})) == 1 for value in out)


def test_scans_of_one_subject_cannot_be_held_against_others() -> None:
    assert domain_of([FACTS] * 3, ["a", "a", "a"])["leave_one_out_rate"] is None
    with_one_other = domain_of([FACTS, FACTS, FACTS | {"slice_mm": 9.0}], ["a", "a", "b"])
    assert with_one_other["leave_one_out_rate"] == 1.0  # each is odd to the other
    assert with_one_other["n_scans"] == 3
