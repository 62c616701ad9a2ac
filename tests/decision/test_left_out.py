"""A subject left out of sorted values, against thresholds and ranks of the others alone."""

from __future__ import annotations

import time

import numpy as np
import pytest

from twinvae.decision.cutoffs import conformal_cutoffs, percentile_cutoffs, weights
from twinvae.decision.left_out import Pool
from twinvae.decision.thresholds import Ranks

PERCENTILES = (1.0, 50.0, 90.0, 97.5, 99.0, 99.9)


@pytest.mark.parametrize("unit", ["slice", "subject"])
@pytest.mark.parametrize(
    ("n", "people", "decimals"),
    [(3, 2, 1), (12, 12, 9), (40, 3, 0), (40, 39, 1), (900, 30, 1), (900, 30, 2), (1500, 9, 9)],
)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_others_alone(
    seed: int, n: int, people: int, decimals: int, unit: str
) -> None:
    rng = np.random.default_rng(seed)
    subject = rng.permutation(np.append(np.arange(people), rng.integers(0, people, n - people)))
    values = np.round(rng.normal(size=n) + rng.normal(size=people)[subject], decimals)
    seen = 0
    for mine, rest in Pool(values, subject, unit).leave_each_out():
        assert len(set(subject[mine])) == 1
        others = np.setdiff1d(np.arange(n), mine)
        assert (subject[others] != subject[mine[0]]).all()
        weight, _ = weights(subject[others], unit)
        seen += len(mine)
        np.testing.assert_array_equal(
            rest.percentiles(PERCENTILES), percentile_cutoffs(values[others], weight, PERCENTILES)
        )
        cutoffs = conformal_cutoffs(values[others], weight, PERCENTILES)
        np.testing.assert_array_equal(rest.conformal(PERCENTILES), cutoffs)
        keep = np.nextafter(cutoffs, -np.inf)
        found, expected = rest.ranks(keep), Ranks.of(values[others], weight, keep)
        np.testing.assert_array_equal(found.value, expected.value)
        np.testing.assert_allclose(found.p_value, expected.p_value, rtol=0, atol=1e-12)
        assert found.least == pytest.approx(expected.least, abs=1e-15)
        if unit == "slice":
            np.testing.assert_array_equal(found.p_value, expected.p_value)
    assert seen == n


def test_leaving_one_out_does_not_grow_with_the_others() -> None:
    """Else calibration would cost the square of the number of subjects."""
    keep = np.array([0.5])

    def seconds(n: int) -> float:
        values = np.random.default_rng(0).random(n)
        pool = Pool(values, np.arange(n) // 100, "subject")
        rests = [rest for _, (_, rest) in zip(range(10), pool.leave_each_out(), strict=False)]
        spent = []
        for rest in rests:
            started = time.process_time()
            rest.ranks(keep)
            spent.append(time.process_time() - started)
        return min(spent)

    assert seconds(3_000_000) < 5 * seconds(30_000)
