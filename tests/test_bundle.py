"""A bundle's domain rests on healthy validation scans and on nothing else."""

from __future__ import annotations

import pandas as pd
import pytest

from twinvae import bundle
from twinvae.bundle import run_domain
from twinvae.run import Run
from twinvae.scoring import read_scores


@pytest.mark.parametrize(
    ("role", "split", "counts"),
    [("healthy", "val", True), ("healthy", "test", False), ("mixed", "test", False),
     ("mixed", "val", False)],
)  # fmt: skip
def test_domain_is_that_of_healthy_validation_scans(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch, role: str, split: str, counts: bool
) -> None:
    before = run_domain(tiny_run)
    scores = read_scores(tiny_run.scores)
    healthy = scores[(scores["role"] == "healthy") & (scores["split"] == "val")]
    assert before["n_scans"] == len(healthy.drop_duplicates(["source", "subject"])) > 1
    chosen = (scores["role"] == role) & (scores["split"] == split)
    assert chosen.any()

    def strange(_path: object) -> pd.DataFrame:
        return scores.assign(image_l2=scores["image_l2"].where(~chosen, 1e6))

    monkeypatch.setattr(bundle, "read_scores", strange)
    assert (run_domain(tiny_run) != before) is counts
