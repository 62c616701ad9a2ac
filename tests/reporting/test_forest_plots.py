"""Estimates are drawn where the tables say they are."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from twinvae.reporting.forest_plots import figure_false_positives, figure_strata
from twinvae.reporting.metric_cells import strata_of, stratum_label
from twinvae.reporting.report_tables import strata_table
from twinvae.reporting.style import picture


def test_strata_are_named_for_readers() -> None:
    assert [
        stratum_label(subset)
        for subset in (
            "mixed", "size_px:50-100", "size_px:400-", "size_mm2:43.9453-100", "size_mm2:1000-",
            "position:first", "grade:LGG", "mixed:site-b",
        )
    ] == [
        "all", "tumour 51–100 px", "tumour over 400 px", "tumour 44–100 mm²",
        "tumour over 1000 mm²", "lowest third of brain", "grade LGG", "source site-b",
    ]  # fmt: skip


def test_strata_without_one_class_are_left_out(fake: Any) -> None:
    there = strata_of(fake.metrics, 50)
    assert there[0] == "mixed"
    assert "size_mm2:200-400" in there  # 2 mm: 50 pixels are 200 mm²
    assert "size_mm2:400-1000" in there
    assert "size_mm2:1000-" in there
    none = fake.metrics.assign(
        n_pos=fake.metrics["n_pos"].where(fake.metrics["subset"] != there[1], 0)
    )
    assert there[1] not in strata_of(none, 50)
    assert all(subset.startswith(("mixed", "size", "position")) for subset in there)


def test_the_strata_figure_holds_the_metrics(fake: Any) -> None:
    rivals = {kind: best["score"] for kind, best in fake.audit["best_trivial"].items()}
    figure = figure_strata(fake.metrics, "residual_local", rivals, 50)
    rows = fake.metrics[(fake.metrics["level"] == "slice") & (fake.metrics["min_tumour_px"] == 50)]
    metrics = ("auroc", "auroc_matched", "auroc_adjusted")
    for axes, metric, rival in zip(figure.axes, metrics, rivals.values(), strict=True):
        for line, score in zip(axes.lines, ("residual_local", rival), strict=False):
            chosen = rows[(rows["score"] == score) & (rows["metric"] == metric)]
            values = chosen.set_index("subset")["value"][strata_of(fake.metrics, 50)]
            np.testing.assert_array_equal(line.get_xdata(), values)
    assert figure.axes[0].get_yticklabels()[0].get_text().startswith("all (")


def test_long_names_do_not_run_into_each_other(fake: Any) -> None:
    longest = {
        "residual_local": "residual_mirror_zscore_negative_local_context",
        "trivial_asymmetry": "trivial_asymmetry_3d_window_negative_context",
    }
    metrics = fake.metrics.assign(score=fake.metrics["score"].replace(longest))
    name, rival = longest.values()
    figure = figure_strata(metrics, name, dict.fromkeys(("raw", "matched", "adjusted"), rival), 50)
    picture(figure)
    boxes = [axes.get_legend().get_window_extent() for axes in figure.axes]
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[1].x1 < boxes[2].x0
    assert min(box.y0 for box in boxes) >= 0
    assert boxes[2].x1 <= figure.bbox.x1


def test_the_strata_table_names_a_stratum_once(fake: Any) -> None:
    lines = strata_table(fake.metrics, ["residual_local", "trivial_asymmetry"], 50)
    assert [line["stratum"] for line in lines[:2]] == ["all", ""]
    found = fake.audit["scores"]["trivial_asymmetry"]["auroc"]
    assert [cell.value for cell in lines[1]["cells"]] == [
        found[kind]["value"] for kind in ("raw", "matched", "adjusted")
    ]


def test_false_positive_rates_are_drawn_beside_their_target(fake: Any) -> None:
    rate = fake.audit["scores"]["residual_local"]["false_positive_rates"][0]
    axes = figure_false_positives(rate).axes[0]
    healthy, free, target = axes.lines
    assert target.get_xdata()[0] == 100 * rate["target"]
    assert healthy.get_xdata()[0] == 100 * rate["healthy"]["value"]
    thirds = rate["by_position"]["tumour_free"]
    expected = [rate["tumour_free"], *(thirds[name] for name in ("first", "middle", "last"))]
    np.testing.assert_allclose(free.get_xdata(), [100 * each["value"] for each in expected])


def test_sources_are_drawn_where_there_are_several(fake: Any) -> None:
    rate = copy.deepcopy(fake.audit["scores"]["residual_local"]["false_positive_rates"][0])
    rate["by_source"]["tumour_free"] = {
        "a": rate["tumour_free"],
        "b": {"value": None, "ci_low": None, "ci_high": None},
    }
    axes = figure_false_positives(rate).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[-2:] == ["source a", "source b"]
    assert np.isnan(axes.lines[0].get_xdata()[-2:]).all()  # the healthy source is another one
    assert np.isnan(axes.lines[1].get_xdata()[-1])
