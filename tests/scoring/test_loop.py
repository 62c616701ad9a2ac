"""The loop over slices, and maps written to files: which rows, in which order, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_fitted import CPU, Slices
from test_scores import MODELS

from twinvae.config import ScoringConfig
from twinvae.scoring import SCORES
from twinvae.scoring.loop import map_rows, score_batches, score_slices, write_maps
from twinvae.scoring.registry import AbnormalityMap

PLACE = AbnormalityMap(
    "place", "position", "a test", lambda b: b.position.view(-1, 1, 1, 1) + 0 * b.x
)
DOUBLE = AbnormalityMap("double", "2 x", "a test", lambda b: 2 * b.x)


def slices() -> Slices:
    """Twenty, of which rows 3 to 7, 12 and 19 are shown."""
    given = Slices()
    given.images = given.images[:, :, :30]  # not square
    given.brain = given.brain[:, :, :30]
    given.index["role"], given.index["split"], given.index["tumour_px"] = "mixed", "test", 4.0
    given.index["position"] = np.linspace(0, 1, 20, dtype=np.float32)
    given.index.loc[[0, 1, 15], "split"] = "val"
    given.index.loc[[2, 9, 10, 16], "role"] = "healthy"
    given.index.loc[[8, 11, 13, 14, 17, 18], "tumour_px"] = np.nan
    return given


def test_maps_are_shown_of_mixed_test_slices_with_a_mask() -> None:
    rows = map_rows(slices())
    assert rows.tolist() == [3, 4, 5, 6, 7, 12, 19]
    assert rows.dtype == np.int64
    none = Slices()
    none.index = pd.DataFrame({"role": ["healthy"], "split": ["test"], "tumour_px": [0.0]})
    assert map_rows(none).tolist() == []


@pytest.mark.parametrize("batch_size", [2, 3, 100])
@pytest.mark.parametrize("wanted", [True, False])
def test_every_batch_says_where_it_belongs(batch_size: int, wanted: bool) -> None:
    given, rows = Slices(), np.array([7, 3, 19, 0, 4])
    options, chosen = ScoringConfig(batch_size=batch_size), [SCORES["latent_l2"]]
    asked = {"scores": chosen, "maps": [DOUBLE], "x_h": True} if wanted else {}
    found = list(score_batches(given, rows, MODELS, options, CPU, **asked))
    ends = [min(at + batch_size, 5) for at in range(0, 5, batch_size)]
    assert [(b.at.start, b.at.stop) for b in found] == list(
        zip(range(0, 5, batch_size), ends, strict=True)
    )
    if not wanted:
        assert all(b.scores.empty and b.maps == {} and b.x_h is None for b in found)
        return
    x = given.images[rows].astype(np.float32) / 65535
    with torch.no_grad():
        x_h = MODELS.healthy.reconstruct(torch.from_numpy(x)[:, None])[:, 0]
    table = score_slices(given, rows, MODELS, chosen, options, CPU)
    for batch in found:
        np.testing.assert_array_equal(batch.maps["double"], 2 * x[batch.at])
        np.testing.assert_allclose(batch.x_h, x_h[batch.at], atol=1e-6)
        expected = table["latent_l2"].to_numpy()[batch.at]
        np.testing.assert_array_equal(batch.scores["latent_l2"], expected)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_written_maps_hold_every_row_at_its_place(tmp_path: Path, batch_size: int) -> None:
    given = slices()
    options = ScoringConfig(batch_size=batch_size)
    write_maps(tmp_path / "maps", given, MODELS, [DOUBLE, PLACE], options, CPU)
    rows = [3, 4, 5, 6, 7, 12, 19]
    double, place = (np.load(tmp_path / "maps" / f"{name}.npy") for name in ("double", "place"))
    assert double.dtype == place.dtype == np.float32
    assert double.shape == place.shape == (7, 32, 30)
    np.testing.assert_array_equal(double, 2 * (given.images[rows].astype(np.float32) / 65535))
    assert (place == given.index["position"].to_numpy()[rows, None, None]).all()


def test_maps_of_before_are_gone(tmp_path: Path) -> None:
    for wanted in ([DOUBLE, PLACE], [PLACE], []):
        write_maps(tmp_path / "maps", slices(), MODELS, wanted, ScoringConfig(), CPU)
        found = sorted(p.name for p in (tmp_path / "maps").glob("*.npy"))
        assert found == sorted(f"{entry.name}.npy" for entry in wanted)
