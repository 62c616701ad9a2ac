"""Places that stand out: found where they were put, measured in the scan's own world."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from twinvae.config import DecisionConfig
from twinvae.decision import calibrate
from twinvae.detection.lesions import COLUMNS, find_lesions, in_words, level_of

# Voxels of 2 × 2 × 3 mm, as after a turn to RAS.
AFFINE = np.array([[2.0, 0, 0, -40], [0, 2.0, 0, -50], [0, 0, 3.0, 10], [0, 0, 0, 1]])
BRAIN = np.zeros((40, 50, 30), bool)
BRAIN[2:38, 2:48, 2:28] = True


def relative() -> np.ndarray:
    """A block, a bar that touches nothing else but at a corner of itself, and a single voxel."""
    made = np.full(BRAIN.shape, 0.5, np.float32)
    made[5:9, 40:44, 20:24] = 1.2
    made[6, 41, 21] = 3.0
    made[30:34, 5, 5] = 1.0
    made[34, 6, 6] = 4.0
    made[20, 25, 15] = 9.0  # 0.012 ml
    return made


def test_clusters_are_found_and_measured() -> None:
    found = find_lesions(relative(), BRAIN, AFFINE)
    table, peaks = found.table, found.peaks
    assert list(table.columns) == list(COLUMNS)
    assert table["lesion"].tolist() == [1]
    assert table["volume_ml"].tolist() == [0.768]  # 64 voxels; the bar has 0.06 ml
    assert table["peak"].tolist() == [3.0]
    assert peaks == [(6, 41, 21)]
    np.testing.assert_array_equal(
        np.argwhere(found.labels == 1)[[0, -1]], [[5, 40, 20], [8, 43, 23]]
    )
    assert found.labels.max() == 1
    row = table.iloc[0]
    assert row[["x_mm", "y_mm", "z_mm"]].tolist() == [-27.0, 33.0, 74.5]
    assert row[["peak_x_mm", "peak_y_mm", "peak_z_mm"]].tolist() == [-28.0, 32.0, 73.0]
    assert row["place"] == "left, anterior, superior"


def test_voxels_that_touch_at_a_corner_are_one_cluster() -> None:
    large = AFFINE * [[3], [3], [3], [1]]  # 27 times the volume: nothing is too small
    found = find_lesions(relative(), BRAIN, large)
    table, peaks = found.table, found.peaks
    assert [found.labels[place] for place in [(20, 25, 15), (34, 6, 6), (30, 5, 5)]] == [1, 2, 2]
    assert (found.labels == 3).sum() == 64
    assert table["peak"].tolist() == [9.0, 4.0, 3.0]  # the highest first
    assert peaks == [(20, 25, 15), (34, 6, 6), (6, 41, 21)]
    assert table["volume_ml"].tolist() == [0.324, 5 * 0.324, 64 * 0.324]
    assert table["place"].tolist()[:2] == ["midline, central", "right, posterior, inferior"]


def test_a_flipped_world_keeps_volumes_and_moves_centres() -> None:
    flipped = AFFINE * [[-1], [1], [1], [1]]
    table = find_lesions(relative(), BRAIN, flipped).table
    assert (table["volume_ml"][0], table["x_mm"][0]) == (0.768, 27.0)


def test_nothing_that_stands_out_is_an_empty_table() -> None:
    found = find_lesions(np.zeros(BRAIN.shape, np.float32), BRAIN, AFFINE)
    assert (list(found.table.columns), len(found.table), found.peaks) == (list(COLUMNS), 0, [])
    assert not found.labels.any()


@pytest.mark.parametrize(
    ("voxel", "words"),
    [
        ((3, 25, 15), "left, central"),
        ((35, 25, 15), "right, central"),
        ((20, 45, 3), "midline, anterior, inferior"),
        ((10, 3, 26), "left, posterior, superior"),
    ],
)
def test_places_in_words(voxel: tuple[int, int, int], words: str) -> None:
    extent = np.array([[2, 37], [2, 47], [2, 27]], float)
    assert in_words(np.array(voxel, float), extent) == words


def healthy_scores(**columns: np.ndarray) -> pd.DataFrame:
    people, slices = 20, 10
    return pd.DataFrame(
        {
            "subject": np.repeat([f"h{n}" for n in range(people)], slices),
            "source": "a", "role": "healthy", "split": "val",
            "slice": np.tile(np.arange(slices), people),
            "position": np.tile(np.linspace(0, 1, slices), people),
            "brain_px": 900.0, "tumour_px": 0, **columns,
        }
    )  # fmt: skip


def test_the_level_is_the_healthy_one_of_the_maps_maximum() -> None:
    highest = np.random.default_rng(0).random(200)
    table = healthy_scores(m_local=highest)
    decision = DecisionConfig(score="m_local", percentiles=(90.0,), scan_percentile=80.0)
    calibration = calibrate(table, decision)
    values, brain = np.ones((10, 4, 4), np.float32), np.ones((10, 4, 4), np.uint8)
    found = level_of(calibration, table.head(10), "m_local", values, brain)
    assert found.values == pytest.approx([np.percentile(highest, 90)] * 10, abs=0.02)
    assert "the 90th percentile of the map's maximum in healthy validation slices" in found.says


@pytest.mark.parametrize("highest", [None, "unknown_local"])
def test_without_a_healthy_level_the_scans_own_percentile_is_said_to_be_one(
    highest: str | None,
) -> None:
    values = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    brain = np.ones((10, 10, 10), np.uint8)
    brain[5:] = 0
    found = level_of({"scores": {}}, healthy_scores().head(10), highest, values, brain)
    assert found.values == pytest.approx([np.percentile(np.arange(500), 99.5)] * 10)
    assert "in this very scan" in found.says
    empty = level_of({"scores": {}}, healthy_scores(), None, np.zeros((2, 3, 3), np.float32),
                     np.zeros((2, 3, 3), np.uint8))  # fmt: skip
    assert (empty.values > 0).all()
