"""Regions: from which value on the deciding map counts, and what is connected."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from twinvae.config import ScoringConfig
from twinvae.detection.regions import find_regions, region_levels
from twinvae.imaging import Volume
from twinvae.scoring.loop import in_context


def _scan(n: int = 9) -> tuple[np.ndarray, Any, pd.DataFrame]:
    """Maps of ``n`` slices, their brains, and the slices' index."""
    g = np.random.default_rng(0)
    maps = g.random((n, 6, 6)).astype(np.float32)
    brain = np.zeros((n, 6, 6), np.uint8)
    brain[:, 1:5, 1:5] = 1
    maps[:, 0, 0] = 50  # outside the brain: counts for nothing
    index = pd.DataFrame(
        {"subject": "a", "session": "", "source": "s", "role": "mixed", "slice": range(n)}
    )
    index["position"] = np.linspace(0, 1, n)
    return maps, SimpleNamespace(brain=brain, index=index), index


def test_without_context_the_slices_own_threshold_counts() -> None:
    maps, prepared, _ = _scan()
    slices = pd.DataFrame({"threshold": np.linspace(1, 2, 9), "x_local": 0.0})
    judgement: Any = SimpleNamespace(slices=slices)
    levels = region_levels(maps, "x_local", judgement, prepared, ScoringConfig())
    np.testing.assert_array_equal(levels, np.linspace(1, 2, 9))


def test_in_context_a_slice_reaches_its_level_just_when_its_score_reaches_the_threshold() -> None:
    maps, prepared, index = _scan()
    options = ScoringConfig(context=1e-4, baseline=0.5)  # neighbours count for nothing
    peaks = maps[:, 1:5, 1:5].max((1, 2)).astype(np.float64)
    scores = in_context(peaks[:, None], index, options.context, options.baseline)[:, 0]
    for threshold in np.linspace(scores.min(), scores.max(), 7)[1:-1]:
        slices = pd.DataFrame({"threshold": threshold, "x_local_context": scores})
        judgement: Any = SimpleNamespace(slices=slices)
        levels = region_levels(maps, "x_local_context", judgement, prepared, options)
        np.testing.assert_array_equal(peaks >= levels, scores >= threshold)
        assert levels == pytest.approx(threshold + 0.5 * np.quantile(peaks, 0.25))


def test_regions_are_numbered_by_volume_and_small_ones_left_out() -> None:
    excess = np.zeros((20, 20, 20), np.float32)
    excess[2:4, 2:4, 2:4] = 1  # 0.064 ml in voxels of 2 mm
    excess[6:9, 6:9, 6:9] = 1
    excess[9, 9, 9] = 1  # touches only at a corner
    excess[12:18, 12:18, 12:18] = 0.5
    excess[0, 0, 0] = -3
    regions = find_regions(Volume(excess, np.diag([2.0, 2, 2, 1])))
    assert regions.volumes_ml == pytest.approx((216 * 0.008, 28 * 0.008))
    assert regions.labels[14, 14, 14] == 1
    assert regions.labels[9, 9, 9] == regions.labels[7, 7, 7] == 2
    assert not regions.labels[:5, :5, :5].any()
