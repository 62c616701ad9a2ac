"""What the page's viewer gets: the scan's own values, where they lie, in few bytes."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json

import numpy as np
import pytest
from scan_material import AFFINE, PEAK, SHAPE, view

from twinvae.reporting.view import LEVELS, in_box, view_data


def unpacked(layer: dict) -> np.ndarray:
    stored = np.frombuffer(gzip.decompress(base64.b64decode(layer["data"])), np.uint8)
    share = stored.reshape(layer["shape"], order="F") / LEVELS
    return layer["low"] + share * (layer["high"] - layer["low"])


def test_layers_hold_the_values_of_the_box_around_the_brain() -> None:
    given, found = view(), view_data(view())
    x, y, z = (slice(c, c + n) for c, n in zip(found["corner"], found["shape"], strict=True))
    assert (x, y, z) == (slice(1, 23), slice(1, 29), slice(0, 20))  # 4 mm: 2 voxels, 2, 2 of 3 mm
    for layer, stored in zip(given.layers, found["layers"], strict=True):
        half = (layer.high - layer.low) / LEVELS / 2
        np.testing.assert_allclose(unpacked(stored), layer.values[x, y, z], atol=half + 1e-6)
    zero = view_data(dataclasses.replace(given, layers=[given.layers[2]]))["layers"][0]
    assert (unpacked(zero) == 0).sum() > 1000  # no residual is stored as exactly none
    json.dumps(found, allow_nan=False)


def test_voxels_of_the_box_lie_where_they_lay_in_the_world() -> None:
    found = view_data(view())
    np.testing.assert_allclose(
        np.array(found["affine"]) @ [*found["start"], 1], (AFFINE @ [*PEAK, 1])[:3]
    )
    assert found["start"] == list(in_box(view(), PEAK)) == [16, 21, 14]
    assert in_box(view(), (0, 99, 3)) == (0, 27, 3)
    assert found["slices"] == [[number, number] for number in range(5, 13)]


@pytest.mark.parametrize(
    ("side", "steps", "map_steps"), [(0.4, 2, 5), (1.0, 1, 2), (1.2, 1, 1), (3.0, 1, 1)]
)
def test_fine_voxels_are_thinned_out(side: float, steps: int, map_steps: int) -> None:
    given = dataclasses.replace(
        view(), affine=np.diag([side, side, 5.0, 1.0]), brain=np.ones(SHAPE, bool)
    )
    scan, kept = view_data(given)["layers"][:2]
    assert scan["step"] == [steps, steps, 1]
    assert kept["step"] == [map_steps, map_steps, 1]
    expected = given.layers[1].values[::map_steps, ::map_steps]
    np.testing.assert_allclose(unpacked(kept), expected, atol=0.01)


def test_without_a_brain_everything_is_shown() -> None:
    given = dataclasses.replace(view(), brain=np.zeros(SHAPE, bool))
    assert view_data(given)["shape"] == list(SHAPE)
