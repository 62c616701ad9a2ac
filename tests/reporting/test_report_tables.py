"""Tables hold the metrics, the decision score first."""

from __future__ import annotations

from typing import Any

from twinvae.reporting.report_tables import ordered_scores, table1


def test_table1_holds_the_metrics(fake: Any) -> None:
    table = table1(fake.metrics, "residual_local")
    assert len(table) == 6 * 3
    assert table["score"].iloc[0] == "residual_local"
    row = table[(table["score"] == "image_l2") & (table["min_tumour_px"] == 100)].iloc[0]
    slices = fake.metrics[fake.metrics["level"] == "slice"]
    for metric in ("accuracy", "f1", "auroc", "auroc_matched", "auroc_adjusted"):
        one = slices.query(f"score == 'image_l2' and min_tumour_px == 100 and metric == '{metric}'")
        assert row[metric] == one["value"].iloc[0]
        assert row[f"{metric}_ci_high"] == one["ci_high"].iloc[0]
    assert ordered_scores(["trivial_a", "b", "latent_l2", "c"], "c") == [
        "c",
        "latent_l2",
        "b",
        "trivial_a",
    ]
