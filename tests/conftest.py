"""A tiny run, made once: generated cohort, two small networks, every stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from contrasts import card, composite, fused, runs
from dicom_series import abnormal_scan
from tiny import tiny_config
from twinvae.runs.folder import Run
from twinvae.runs.stages import run_stages

__all__ = ["abnormal_scan", "card", "composite", "fused", "runs"]  # fixtures

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run; tests must not change it."""
    run = Run.create(tiny_config(), tmp_path_factory.mktemp("runs") / "tiny")
    run_stages(run)
    return run


@pytest.fixture
def tiny_scan(tiny_run: Run) -> Path:
    """A scan of the tiny run's mixed source."""
    return next((tiny_run.folder / "cohort/mixed").glob("sub-*/anat/*_T2w.nii.gz"))
