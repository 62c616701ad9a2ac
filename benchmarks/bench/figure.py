"""Cost against size as a picture: processor seconds and memory, a line a stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scaling import LEAST_GIB, exponents, typical, usable

from twinvae.reporting.style import GREY, styled

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#1F2328", "#767676")
_MARKS = "osD^vP*X"
_PANELS = (("cpu", "processor seconds", 1e-3), ("added_gib", "memory added, GiB", LEAST_GIB))


@styled
def scaling_figure(points: Sequence[dict[str, Any]]) -> Figure:
    """Two panels with logarithmic axes; grey lines rise by the power 1."""
    figure = Figure(figsize=(10.5, 5.4), layout="constrained")
    stages = list(dict.fromkeys(one["stage"] for one in points))
    for axes, (key, label, floor) in zip(figure.subplots(1, 2), _PANELS, strict=True):
        for number, stage in enumerate(stages):
            mine = [one for one in points if one["stage"] == stage]
            _line(axes, mine, key, floor, number)
        axes.set(xscale="log", yscale="log", xlabel="n (scans, slices or rows)", ylabel=label)
        _guides(axes)
        axes.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return figure


def _line(axes: Axes, points: list[dict[str, Any]], key: str, floor: float, number: int) -> None:
    good = usable(points)
    sizes = sorted({one["n"] for one in good})
    costs = [max(typical(good, n, key), floor) for n in sizes]
    fitted, last = exponents(points, key, floor)
    power = "" if math.isnan(last) else f", k = {sum(fitted) / len(fitted):.2f} (last {last:.2f})"
    stopped = ", stopped" if len(good) < len(points) else ""
    axes.plot(
        sizes, costs, color=_COLOURS[number % len(_COLOURS)], marker=_MARKS[number % len(_MARKS)],
        markersize=4, label=f"{points[0]['stage']}{power}{stopped}",
    )  # fmt: skip


def _guides(axes: Axes) -> None:
    """Lines of the power 1 through the panel, which keeps its limits."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for start in range(math.floor(math.log10(low / right)), math.ceil(math.log10(high / left)) + 1):
        axes.plot(
            [left, right], [left * 10**start, right * 10**start], color=GREY, lw=0.4, zorder=0
        )
    axes.set(xlim=(left, right), ylim=(low, high))
