"""A bundle's domain rests on healthy validation scans and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run
from twinvae.runs.pack import run_domain


@pytest.mark.parametrize(
    ("role", "split", "counts"),
    [("healthy", "val", True), ("healthy", "train", False), ("healthy", "test", False),
     ("mixed", "test", False), ("mixed", "val", False)],
)  # fmt: skip
def test_domain_is_that_of_healthy_validation_scans(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch, role: str, split: str, counts: bool
) -> None:
    before, store = run_domain(tiny_run), SliceStore.open(tiny_run.slices)
    healthy = store.index[(store.index["role"] == "healthy") & (store.index["split"] == "val")]
    assert before["n_scans"] == len(healthy.drop_duplicates(["source", "subject"])) > 1
    chosen = ((store.index["role"] == role) & (store.index["split"] == split)).to_numpy()
    assert chosen.any()
    strange = np.where(chosen[:, None, None], store.images // 3, store.images)
    monkeypatch.setattr(SliceStore, "open", lambda _folder: replace(store, images=strange))
    assert (run_domain(tiny_run) != before) is counts
