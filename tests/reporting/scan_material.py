"""A made-up scan for tests of its page: a bright place, front, up, on the person's right."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from twinvae.decision import ScanVerdict
from twinvae.reporting.scan_page import ScanMaterial, StandsOut
from twinvae.reporting.view import Layer, View

SHAPE = (24, 30, 20)
FIRST = 5  # number of the lowest slice judged
AFFINE = np.array([[2.0, 0, 0, -24], [0, 2.0, 0, -30], [0, 0, 3.0, -12], [0, 0, 0, 1]])
PEAK = (17, 22, 14)
BRIGHT, DARK = 200.0, 50.0


def volumes() -> dict[str, np.ndarray]:
    """Scan, brain and map on one grid; the scan is 0 outside the brain."""
    brain = np.zeros(SHAPE, bool)
    brain[3:21, 3:27, 2:18] = True
    x, y, z = np.indices(SHAPE)
    place = np.maximum.reduce([abs(i - p) for i, p in zip((x, y, z), PEAK, strict=True)]) <= 2
    relative = np.where(place, 1.5, 0.0) + np.where((x, y, z) == np.reshape(PEAK, (3, 1, 1, 1)),
                                                    1.0, 0.0).min(axis=0)  # fmt: skip
    return {
        "scan": np.where(place, BRIGHT, DARK).astype(np.float32) * brain,
        "brain": brain,
        "map": relative.astype(np.float32),
    }


def view() -> View:
    """As ``detect`` hands it over."""
    made = volumes()
    signed = (made["map"] - 1) * made["brain"] / 5
    return View(
        layers=[
            Layer("scan", "Scan", made["scan"], 0.0, 254.0, "grey"),
            Layer("map", "Map behind the score", made["map"], 0.0, 3.0, "heat", " × threshold"),
            Layer("residual", "Residual x − x_h", signed, -0.5, 0.5, "signed"),
            Layer("healthy", "Healthy x_h", made["scan"] / 2, 0.0, 254.0, "grey"),
            Layer("brain", "Brain mask", made["brain"], 0.0, 1.0, "mask"),
        ],
        brain=made["brain"],
        affine=AFFINE,
        slices={number: number for number in range(FIRST, FIRST + 8)},
        start=PEAK,
    )


def verdict(abnormal: bool, **changes: Any) -> ScanVerdict:
    """Of the highest score, 7, against 6 or 99."""
    plain = ScanVerdict(
        abnormal=abnormal,
        statistic="max",
        value=7.0,
        threshold=6.0 if abnormal else 99.0,
        p_value=0.05,
        highest=7.0,
        percentile=90.0,
        target_fpr=0.1,
    )
    return dataclasses.replace(plain, **changes)


def lesions() -> pd.DataFrame:
    """One place."""
    row = {"lesion": 1, "place": "right, anterior, superior", "volume_ml": 1.5, "peak": 2.5}
    mm = (AFFINE @ [*PEAK, 1])[:3]
    row |= {f"{p}{a}_mm": mm[i] for p in ("", "peak_") for i, a in enumerate("xyz")}
    return pd.DataFrame([row])


def scan(abnormal: bool = True, count: int = 8, **changes: Any) -> ScanMaterial:
    """Slices of rising scores, the last row the lowest slice of the scan."""
    rng = np.random.default_rng(2)
    score = np.arange(count, dtype=float)
    table = pd.DataFrame(
        {
            "slice": np.arange(count)[::-1] + FIRST,
            "position": np.linspace(0, 1, count),
            "score": score,
            "threshold": 5.0,
            "abnormal": score >= 5,
        }
    )
    material = ScanMaterial(
        name="scan <1>.nii.gz",
        verdict=verdict(abnormal),
        slices=table,
        score="residual_local",
        images=rng.random((count, 12, 12)),
        reconstructions=rng.random((count, 12, 12)),
        stands_out=StandsOut(
            "what is <too> bright", "Threshold: 0.2.", True,
            rng.random((count, 12, 12)) * 2, lesions(), [PEAK],
        ),
        view=view(),
        made={"Bundle": "demo"},
        warnings=["Moved thresholds."],
    )  # fmt: skip
    return dataclasses.replace(material, **changes)
