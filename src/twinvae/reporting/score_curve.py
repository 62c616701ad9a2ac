"""The curve of every slice's score, with the lines its verdict rests on, for an inline SVG.

The SVG is stretched to whatever room there is; what must not be stretched with it (text, the width
of lines) is placed beside it in per cent, so that the curve can be read on a phone too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from twinvae.decision import ScanVerdict

_ON_SCORES = ("max", "top_mean")  # statistics that can be drawn beside slices' scores
_ROOM = 0.08  # above and below the curve, of its height


def score_curve(slices: pd.DataFrame, verdict: ScanVerdict | None) -> dict[str, Any]:
    """What the template draws, in a box of 1000 × 1000; ``slices`` as of ``ScanMaterial``.

    ``scan_line`` is the verdict's threshold where that can be drawn among the slices' scores, else
    None; ``slice_line`` is d*. Without a verdict there is neither, since nothing is judged.
    """
    table = slices.sort_values("slice")
    number = table["slice"].to_numpy(np.float64)
    score = table["score"].to_numpy(np.float64)
    bound = table["threshold"].to_numpy(np.float64)
    drawn = [score]
    scan_line = None
    if verdict is not None:
        drawn.append(bound[np.isfinite(bound)])
        if verdict.statistic in _ON_SCORES:
            scan_line = verdict.threshold
            drawn.append(np.array([scan_line]))
    low, high = _limits(np.concatenate(drawn))
    across = _Scale(float(number[0]), float(number[-1]))
    up = _Scale(low, high)
    points = [(across(n), 1000 - up(s)) for n, s in zip(number, score, strict=True)]
    abnormal = table["abnormal"].fillna(False).to_numpy(bool)
    return {
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        "abnormal": [p for p, called in zip(points, abnormal, strict=True) if called],
        "scan_line": None if scan_line is None else 1000 - up(scan_line),
        "slice_line": "" if verdict is None else _steps(across, up, number, bound),
        "up": [(f"{t:g}", up(t) / 10) for t in _ticks(low, high)],
        "across": [(f"{t:.0f}", across(t) / 10) for t in _ticks(number[0], number[-1], whole=True)],
        "first": int(number[0]),
        "last": int(number[-1]),
    }


def gauge(verdict: ScanVerdict) -> dict[str, float]:
    """Where the scan's statistic and its threshold lie on a bar, in per cent of its length."""
    low, high = _limits(np.array([0.0, verdict.value, verdict.threshold]))
    scale = _Scale(min(low, 0.0) if verdict.value < 0 else 0.0, high)
    return {"value": scale(verdict.value) / 10, "threshold": scale(verdict.threshold) / 10}


class _Scale:
    """From [low, high] to [0, 1000]."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._span = low, (high - low) or 1.0

    def __call__(self, value: float) -> float:
        return 1000.0 * (value - self._low) / self._span


def _limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = _ROOM * (high - low) or 0.5
    return low - room, high + room


def _steps(
    across: _Scale, up: _Scale, number: npt.NDArray[np.float64], bound: npt.NDArray[np.float64]
) -> str:
    """The path of d*; broken where no score would be abnormal."""
    path, before = [], False
    for n, b in zip(number, bound, strict=True):
        there = math.isfinite(b)
        if there:
            path.append(f"{'L' if before else 'M'}{across(n):.1f},{1000 - up(b):.1f}")
        before = there
    return " ".join(path)


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Four to nine round numbers in [low, high]."""
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / 2))
    step = next(step * f for f in (1, 2, 5, 10) if span / (step * f) <= 6)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(step * i, 10) for i in range(first, last + 1)]
