"""docs/python.md: its blocks run in their order as they stand there, on small scans."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import twinvae
from tiny import TINY
from twinvae.cohort.phantom import generate_cohort
from twinvae.config import PhantomConfig
from twinvae.errors import ConfigError
from twinvae.runs.folder import STAGES, Run

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def run_blocks(which: list[str], names: dict[str, Any]) -> None:
    for number, code in enumerate(which):
        exec(compile(code, f"python.md, block {number}", "exec"), names)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_verdicts(here: Path) -> None:
    options = PhantomConfig(healthy=1, mixed=1, tumour_share=1.0, spacing_mm=3.0, seed=4)
    generate_cohort(here / "brains", options, jobs=1)
    (scan,) = here.glob("brains/mixed/sub-*/anat/*_T2w.nii.gz")
    shutil.copyfile(scan, "scan.nii.gz")
    image = nib.load(scan)
    values = np.asarray(image.dataobj, np.float32)
    nib.save(nib.Nifti1Image(values, image.affine), "flair.nii.gz")
    names: dict[str, Any] = {}
    run_blocks([code for code in blocks() if "run_stages" not in code], names)
    assert names["result"].verdict == "abnormal"
    assert names["same"].slices.equals(names["result"].slices)
    assert names["same"].name == "patient 7"
    assert set(names["masked"].maps) == {"residual", "residual_positive"}
    assert Path("results/scan/report.html").is_file()
    assert names["patient"].scans["T2w"].value == names["result"].value
    assert names["found"][0].verdict.value == names["result"].value


def test_stages(here: Path, tiny_run: Run) -> None:
    shutil.copytree(tiny_run.folder, "runs/mine", symlinks=True)
    (code,) = (code for code in blocks() if "run_stages" in code)
    names: dict[str, Any] = {"twinvae": twinvae, "Path": Path, "settings": TINY}
    run_blocks([code], names)
    assert names["scores"].equals(twinvae.read_scores(tiny_run.scores))
    assert names["trained"].name == "tiny"
    assert all(Path("runs/mine/stages", f"{stage}.json").is_file() for stage in STAGES)


def test_a_stage_that_is_none_is_named(tiny_run: Run) -> None:
    with pytest.raises(ConfigError, match=r"stage: expected one of .*report, found 'scores'"):
        twinvae.run_stage(tiny_run, "scores")
