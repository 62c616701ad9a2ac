"""Scans judged on a Dask cluster: as on one machine, and a broken one costs no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from twinvae.detection.detect import detect_scans
from twinvae.errors import PartialFailureError, StageError
from twinvae.runs.folder import Run


@pytest.fixture
def scans(tiny_scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two scans and a broken one, named as seen from their folder."""
    here = tmp_path / "here"
    here.mkdir()
    for name in "ac":
        shutil.copy(tiny_scan, here / f"{name}.nii.gz")
    (here / "b.nii.gz").write_bytes(b"no scan")
    monkeypatch.chdir(here)
    return [Path(f"{name}.nii.gz") for name in "abc"]


def test_a_cluster_judges_as_one_machine_does(tiny_run: Run, scans: list[Path]) -> None:
    distributed = pytest.importorskip("distributed", reason="needs twinvae[dask]")
    bundle, told = tiny_run.bundle, r"1 of 3 scans skipped[\s\S]*b\.nii\.gz"
    with pytest.raises(PartialFailureError, match=told):
        detect_scans(bundle, scans, "alone", threads=1)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    # The workers were started in this folder; a call is made from another, by its own names.
    with cluster, pytest.MonkeyPatch.context() as elsewhere:
        Path("inner").mkdir()
        elsewhere.chdir("inner")
        with pytest.raises(PartialFailureError, match=told):
            detect_scans(
                bundle, [Path("..") / scan for scan in scans], "out", threads=1,
                dask=cluster.scheduler_address,
            )  # fmt: skip
    for name in "ac":
        found, expected = (
            pd.read_csv(folder / name / "slices.tsv", sep="\t")
            for folder in (Path("inner/out"), Path("alone"))
        )
        pd.testing.assert_frame_equal(found, expected)
    summary = pd.read_csv("inner/out/summary.tsv", sep="\t")
    assert summary["name"].tolist() == ["a", "c"]


def test_no_cluster_there_is_said_before_anything_is_written(
    tiny_run: Run, scans: list[Path]
) -> None:
    pytest.importorskip("distributed", reason="needs twinvae[dask]")
    with pytest.raises(StageError, match="expected a Dask scheduler there, found none"):
        detect_scans(tiny_run.bundle, scans[:1], "out", dask="127.0.0.1:9")
    assert not Path("out").exists()
