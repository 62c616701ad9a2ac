"""A study's cells on a Dask cluster: the same table, and a failing cell costs no other."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from test_study import study_file
from twinvae.errors import PartialFailureError, StageError
from twinvae.runs.folder import Run
from twinvae.runs.study import run_study

UNTRAINED = {f"training.{role}.data": "none" for role in ("healthy", "mixed")}


def test_cells_on_a_cluster_give_the_table_of_one_machine(tiny_run: Run, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs twinvae[dask]")
    diverging = {"training.mixed.learning_rate": 1e30, "training.mixed.clip_norm": 1e30}
    models = {"diverging": diverging | {"training.healthy.data": "none"}, "untrained": UNTRAINED}
    path = study_file(tmp_path, tiny_run.manifest, seeds=[0], models=models)
    only = {"untrained": UNTRAINED}
    one = study_file(tmp_path / "one", tiny_run.manifest, seeds=[0], models=only)
    expected = run_study(one, tmp_path / "here", jobs=1)
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://",
        host="127.0.0.1", dashboard_address=None,
    )  # fmt: skip
    with cluster, pytest.raises(PartialFailureError, match="1 of 2 cells failed") as failed:
        run_study(path, tmp_path / "there", dask=cluster.scheduler_address)
    assert "once/diverging/seed-0: training diverged" in str(failed.value)
    found = pd.read_csv(tmp_path / "there/study.tsv", sep="\t")
    assert set(found["model"]) == {"untrained"}
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-5)


def test_no_cluster_there_is_said_before_anything_is_prepared(
    tiny_run: Run, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="needs twinvae[dask]")
    path = study_file(tmp_path, tiny_run.manifest)
    with pytest.raises(StageError, match="expected a Dask scheduler there, found none"):
        run_study(path, tmp_path / "out", dask="127.0.0.1:9")
    assert not (tmp_path / "out/once").exists()
